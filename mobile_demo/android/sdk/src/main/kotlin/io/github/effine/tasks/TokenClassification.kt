package io.github.effine.tasks

import io.github.effine.DType
import io.github.effine.Entity
import io.github.effine.Example
import io.github.effine.Prediction
import io.github.effine.TaggedWord
import io.github.effine.Tensor
import io.github.effine.Tokens
import io.github.effine.largest
import io.github.effine.position
import io.github.effine.tokenizer.Encoding
import io.github.effine.tokenizer.NONE
import io.github.effine.tokenizer.Tokenizer

/** The label of positions that nothing is learned at. */
private const val IGNORED = -100L

/** Tokens of words; [firsts] is where each word starts, -1 where it has no token. */
internal class Words(ids: IntArray, typeIds: IntArray, val firsts: IntArray) : Tokens(ids, typeIds)

/**
 * A tag for each word, at the word's first token: entities and the share of right tags.
 *
 * Words are tokenized as one text with a space between them. A word that was cut off, or that has no
 * token, is outside of all entities.
 */
internal object TokenClassification : Task("token-classification") {
    override val metrics = listOf("entity_f1", "entity_precision", "entity_recall", "tag_accuracy")

    override fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example {
        val words = example.words ?: pieces(example.text)
        if (words.isEmpty() || words.any { isBlank(it) }) refuse("words is empty or has an empty entry; fill it in")
        if (!labelled) return Example.tagged(words)
        val tags = example.tags ?: refuse("has no tags; give one for each word")
        if (tags.any { isBlank(it) }) refuse("tags has an empty entry; fill it in")
        if (tags.size != words.size) refuse("${words.size} words and ${tags.size} tags; give one tag for each")
        return Example.tagged(words, tags)
    }

    override fun samples(
        examples: List<Example>,
        tokenizer: Tokenizer,
        maxLength: Int,
        labels: List<String>?,
        rows: Int,
    ): Samples {
        val encodings = examples.map { tokenizer.encode(it.text) }
        val tokens = encodings.mapIndexed { i, encoding -> words(encoding.truncated(maxLength), examples[i].words!!) }
        val targets = if (labels == null) {
            Tensor(DType.I64, listOf(examples.size))
        } else {
            targets(examples, tokens, maxLength, labels)
        }
        return Samples(examples, tokens, IntArray(tokens.size) { it }, targets, encodings.count { it.size > maxLength })
    }

    /** Where the words of a text of words with a space between them start. */
    private fun words(encoding: Encoding, words: List<String>): Words {
        val codes = words.joinToString(" ").codePoints().toArray()
        val starts = words.runningFold(0) { start, word -> start + word.codePointCount(0, word.length) + 1 }
        val firsts = IntArray(words.size) { NONE }
        val (sequences, offsets) = encoding.sequences to encoding.offsets
        for (token in offsets.indices) {
            val inside = offsets[token].firstOrNull { !isSpace(codes[it]) }
            if (sequences[token] != 0 || inside == null) continue
            val found = starts.binarySearch(inside)
            val word = if (found >= 0) found else -found - 2
            if (firsts[word] == NONE) firsts[word] = token
        }
        return Words(encoding.ids, encoding.typeIds, firsts)
    }

    /** Positions of the tags [N, maxLength]. */
    private fun targets(examples: List<Example>, tokens: List<Words>, maxLength: Int, labels: List<String>): Tensor {
        val targets = Tensor(DType.I64, listOf(examples.size, maxLength))
        val view = targets.longs()
        for (i in 0 until targets.count) view.put(i, IGNORED)
        examples.forEachIndexed { index, example ->
            val positions = example.tags!!.map { position(it, labels, index).toLong() }
            tokens[index].firsts.forEachIndexed { word, first ->
                if (first != NONE) view.put(index * maxLength + first, positions[word])
            }
        }
        return targets
    }

    override fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>): Map<String, Double> {
        val given = samples.examples.map { it.tags!! }
        val found = predictions(outputs, samples, labels).map { it.tags() }
        val pairs = given.zip(found).flatMap { (a, b) -> a.zip(b) }
        return entityScores(given, found) + ("tag_accuracy" to pairs.count { it.first == it.second }.toDouble() / pairs.size)
    }

    override fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>) =
        samples.examples.mapIndexed { index, example ->
            tagged(example.words!!, (samples.tokens[index] as Words).firsts, outputs[index], labels)
        }

    private fun tagged(words: List<String>, firsts: IntArray, logits: FloatArray, labels: List<String>): Prediction {
        val tagged = words.mapIndexed { word, text ->
            val start = firsts[word] * labels.size
            if (start < 0) {
                TaggedWord(text, OUTSIDE, null)
            } else {
                val shares = softmax(logits.copyOfRange(start, start + labels.size))
                val best = largest(shares)
                TaggedWord(text, labels[best], shares[best])
            }
        }
        val entities = entities(tagged.map { it.tag }).map { (label, start, end) ->
            val inside = tagged.subList(start, end)
            Entity(label, start, end, inside.joinToString(" ") { it.word }, inside.minOf { it.probability ?: 0.0 })
        }
        return Prediction(words = tagged, entities = entities)
    }

    override fun collapse(outputs: List<FloatArray>, samples: Samples, labels: List<String>): String? {
        val tags = predictions(outputs, samples, labels).flatMap { it.tags() }
        if (tags.size < 2 || tags.distinct().size > 1) return null
        return "every word of the evaluation data is predicted to be '${tags[0]}': training is " +
            "too short, or the learning rates are too low"
    }

    private fun Prediction.tags() = words!!.map { it.tag }
}
