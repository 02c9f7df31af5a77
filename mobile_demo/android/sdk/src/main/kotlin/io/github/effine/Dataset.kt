package io.github.effine

import io.github.effine.tokenizer.Tokenizer
import java.io.File

/** Token ids and token types of one sample, special tokens included. */
class Tokens internal constructor(val ids: IntArray, val typeIds: IntArray)

/**
 * A tokenized data set.
 *
 * @property seqs the smallest exported sequence length that fits each sample.
 * @property targets class positions [N] as int64, scores [N] as float32, or for several labels [N, C] float32
 *   with a column for each row of the head and 1 for what applies; zeros for unlabelled data.
 * @property truncated how many texts were cut to the longest exported length.
 * @property fingerprint identifies the content and its order.
 */
class Dataset internal constructor(
    internal val tokens: List<Tokens>,
    internal val seqs: IntArray,
    internal val targets: Tensor,
    internal val weights: FloatArray,
    internal val labels: List<String>,
    internal val classWeights: String?,
    internal val truncated: Int,
    internal val fingerprint: String,
) {
    val size: Int get() = tokens.size

    /** The weights of some samples. */
    internal fun weights(samples: List<Int>): FloatArray = FloatArray(samples.size) { weights[samples[it]] }

    /** Writes the samples' targets into [into]; zeros beyond them. */
    internal fun putTargets(samples: List<Int>, into: Tensor) {
        val (from, to) = targets.bytes() to into.bytes()
        val size = from.capacity() / this.size
        into.zero()
        samples.forEachIndexed { row, sample ->
            for (byte in 0 until size) to.put(row * size + byte, from.get(sample * size + byte))
        }
    }
}

/** Checks and tokenizes examples for an artifact; [labels] are those in use, in head order. */
internal fun tokenized(
    examples: List<Example>,
    manifest: Manifest,
    tokenizer: Tokenizer,
    labels: List<String>,
    labelled: Boolean,
    classWeights: String?,
): Dataset {
    checkExamples(examples, manifest.task, labelled)
    val longest = manifest.tokens.maxLength
    val encodings = examples.map { tokenizer.encode(it.text, it.textB) }
    val tokens = encodings.map { encoding -> encoding.truncated(longest).let { Tokens(it.ids, it.typeIds) } }
    val targets = targets(examples, manifest.task, labels, labelled)
    return Dataset(
        tokens,
        IntArray(tokens.size) { manifest.seqFor(tokens[it].ids.size) },
        targets,
        if (classWeights == null) FloatArray(tokens.size) { 1f } else balancedWeights(targets, labels.size),
        labels,
        classWeights,
        encodings.count { it.size > longest },
        fingerprint(examples, labelled),
    )
}

/** Reads a tokens file of effine.runtime.tokens, which must be of the artifact's tokenizer and length. */
internal fun readTokens(file: File, artifact: Artifact): Dataset = try {
    val content = TensorFile.read(file)
    TokensReader(content.tensors, content.metadata, artifact.manifest).read()
} catch (error: FormatError) {
    throw DataError("$file: ${error.message}; write it again with effine.runtime.tokens", error)
} catch (error: StateError) {
    throw DataError("${error.message}; write it again with effine.runtime.tokens", error)
}

private class TokensReader(
    private val tensors: Tensors,
    private val metadata: Map<String, String>,
    private val manifest: Manifest,
) {
    fun read(): Dataset {
        if (text("format") != "effine tokens" || text("schema") != "1") throw FormatError("not a tokens file of schema 1")
        val sameLength = place("max_length").positive() == manifest.tokens.maxLength
        if (!sameLength || text("tokenizer") != manifest.files["tokenizer.json"]?.sha256) {
            throw FormatError("was made for an artifact with another tokenizer or length")
        }
        val tokens = samples()
        val labels = place("labels").items().map { it.text() }
        return Dataset(
            tokens,
            IntArray(tokens.size) { manifest.seqFor(tokens[it].ids.size) },
            targets(tokens.size, labels),
            list("weights", DType.F32).floats().let { view -> FloatArray(tokens.size) { view.get(it) } },
            labels,
            place("class_weights").optional { oneOf(BALANCED) },
            place("truncated").count(),
            text("fingerprint"),
        )
    }

    private fun samples(): List<Tokens> {
        val offsets = list("offsets", DType.I64).let { all -> LongArray(all.count).also { all.longs().get(it) } }
        val ids = list("ids", DType.I32)
        val types = list("type_ids", DType.U8)
        val ascending = offsets.first() == 0L && (1 until offsets.size).all { offsets[it - 1] < offsets[it] }
        val fits = ascending && offsets.last() == ids.count.toLong() && types.count == ids.count
        if (!fits || offsets.size < 2 || list("weights", DType.F32).count != offsets.size - 1) {
            throw FormatError("its lists don't belong together")
        }
        val (idView, typeView) = ids.bytes().asIntBuffer() to types.bytes()
        return (1 until offsets.size).map { i ->
            val (start, size) = offsets[i - 1].toInt() to (offsets[i] - offsets[i - 1]).toInt()
            Tokens(IntArray(size) { idView.get(start + it) }, IntArray(size) { typeView.get(start + it).toInt() })
        }
    }

    private fun targets(samples: Int, labels: List<String>): Tensor {
        val task = manifest.task
        val single = task.name == TaskInfo.CLASSIFICATION
        val shape = if (task.name == TaskInfo.MULTILABEL) listOf(samples, task.rows) else listOf(samples)
        val targets = list("labels", if (single) DType.I64 else DType.F32, shape.size)
        if (targets.shape != shape) throw FormatError("its lists don't belong together")
        if (labels.take(task.labels.size) != task.labels || labels.size > task.rows) {
            throw FormatError("its labels don't continue the artifact's")
        }
        if (single) {
            val view = targets.longs()
            if (!(0 until samples).all { view.get(it) in labels.indices }) throw FormatError("a label is unknown")
        }
        return targets
    }

    private fun text(name: String) = metadata[name] ?: throw FormatError("metadata \"$name\" is missing")

    private fun place(name: String) = Place(Json.parse(text(name)), name)

    private fun list(name: String, dtype: DType, rank: Int = 1): Tensor {
        val tensor = tensors[name] ?: throw FormatError("there is no list $name")
        if (tensor.dtype != dtype || tensor.shape.size != rank) {
            throw FormatError("$name: expected ${dtype.label}, found ${describe(tensor.dtype, tensor.shape)}")
        }
        return tensor
    }
}
