package io.github.effine

import io.github.effine.tasks.Samples
import io.github.effine.tasks.TASKS
import io.github.effine.tasks.TextTask
import java.io.File

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
        val owners = IntArray(tokens.size) { it }
        return Dataset(
            Samples(emptyList(), tokens, owners, targets(tokens.size, labels), place("truncated").count()),
            IntArray(tokens.size) { manifest.seqFor(tokens[it].ids.size) },
            list("weights", DType.F32).floats().let { view -> FloatArray(tokens.size) { view.get(it) } },
            labels,
            place("class_weights").optional { oneOf(BALANCED) },
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
        val info = manifest.task
        val task = TASKS.getValue(info.name) as? TextTask
            ?: throw FormatError("can't hold what task '${info.name}' learns from each token")
        val wanted = task.blank(samples, info.rows)
        val targets = list("labels", wanted.dtype, wanted.shape.size)
        if (targets.shape != wanted.shape) throw FormatError("its lists don't belong together")
        if (labels.take(info.labels.size) != info.labels || labels.size > info.rows) {
            throw FormatError("its labels don't continue the artifact's")
        }
        if (targets.dtype == DType.I64) {
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
