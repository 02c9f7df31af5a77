package io.github.effine.tasks

import io.github.effine.DataError
import io.github.effine.Example
import io.github.effine.Prediction
import io.github.effine.Tensor
import io.github.effine.Tokens
import io.github.effine.tokenizer.Tokenizer

/**
 * Examples as the programs take them.
 *
 * @property examples what they are made of; none if only tokens are known.
 * @property owners the example that each sample is from.
 * @property targets what is to be learned, [N, ...], long enough for the longest program; zeros for
 *   unlabelled data.
 * @property truncated how many texts were cut.
 */
internal class Samples(
    val examples: List<Example>,
    val tokens: List<Tokens>,
    val owners: IntArray,
    val targets: Tensor,
    val truncated: Int,
)

/**
 * What is learned, as a device sees it: the rules of Python's effine.runtime.tasks.
 *
 * Outputs are a program's logits in use, for each sample: [C], or those of its tokens one after the
 * other, [L * C].
 */
internal abstract class Task(val name: String) {
    /** What [evaluate] measures, the main metric first. */
    abstract val metrics: List<String>

    /** The example with what this task uses alone; [refuse] is told why one can't be used. */
    abstract fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example

    /** The number of the head's rows in use. */
    open fun outputs(labels: List<String>): Int = labels.size

    /**
     * Tokenizes examples and encodes what is to be learned.
     *
     * @param labels those in use, in head order; null for unlabelled data.
     * @param rows all rows of the head.
     */
    abstract fun samples(
        examples: List<Example>,
        tokenizer: Tokenizer,
        maxLength: Int,
        labels: List<String>?,
        rows: Int,
    ): Samples

    /** Weights that count rare labels more. */
    open fun balancedWeights(targets: Tensor, labels: Int): FloatArray =
        throw DataError("class weights: task '$name' has no label for each example; leave them out")

    /** All metrics by name, the main one first. */
    abstract fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>): Map<String, Double>

    /** A prediction for each example. */
    abstract fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>): List<Prediction>

    /** A warning if the same is predicted whatever the input. */
    open fun collapse(outputs: List<FloatArray>, samples: Samples, labels: List<String>): String? = null
}

/** A task on whole texts and pairs, each of them a sample. */
internal abstract class TextTask(name: String) : Task(name) {
    /** Targets of zeros; [rows] are all of the head's. */
    abstract fun blank(samples: Int, rows: Int): Tensor

    /** Writes what is to be learned of an example into [targets]. */
    protected abstract fun mark(targets: Tensor, index: Int, example: Example, labels: List<String>)

    override fun samples(
        examples: List<Example>,
        tokenizer: Tokenizer,
        maxLength: Int,
        labels: List<String>?,
        rows: Int,
    ): Samples {
        val encodings = examples.map { tokenizer.encode(it.text, it.textB) }
        val tokens = encodings.map { encoding -> encoding.truncated(maxLength).let { Tokens(it.ids, it.typeIds) } }
        val targets = blank(examples.size, rows)
        if (labels != null) examples.forEachIndexed { index, example -> mark(targets, index, example, labels) }
        return Samples(examples, tokens, IntArray(tokens.size) { it }, targets, encodings.count { it.size > maxLength })
    }
}

/** All tasks by name. */
internal val TASKS: Map<String, Task> =
    listOf(Classification, MultiLabel, QuestionAnswering, Regression, TokenClassification).associateBy { it.name }
