package io.github.effine

import io.github.effine.tasks.Samples
import io.github.effine.tasks.TASKS
import io.github.effine.tokenizer.Tokenizer

/** Token ids and token types of one sample, special tokens included. */
open class Tokens internal constructor(val ids: IntArray, val typeIds: IntArray)

/**
 * A tokenized data set.
 *
 * @property size how many samples there are: one for each example, or more where a context needs several
 *   windows.
 * @property seqs the smallest exported sequence length that fits each sample.
 * @property truncated how many texts were cut to the longest exported length.
 * @property fingerprint identifies the content and its order.
 */
class Dataset internal constructor(
    internal val samples: Samples,
    internal val seqs: IntArray,
    internal val weights: FloatArray,
    internal val labels: List<String>,
    internal val classWeights: String?,
    internal val fingerprint: String,
) {
    val size: Int get() = tokens.size
    internal val tokens: List<Tokens> get() = samples.tokens
    internal val truncated: Int get() = samples.truncated

    /** The weights of some samples. */
    internal fun weights(samples: List<Int>): FloatArray = FloatArray(samples.size) { weights[samples[it]] }

    /** Writes the targets of some samples into [into], those of tokens cut to its length; zeros beyond them. */
    internal fun putTargets(chosen: List<Int>, into: Tensor) {
        val targets = samples.targets
        val (from, to) = targets.bytes() to into.bytes()
        val elements = from.capacity() / targets.count
        val single = targets.shape.size == 1
        val (length, cut) = if (single) 1 to 1 else targets.shape.last() to into.shape.last()
        val lines = targets.count / targets.shape[0] / length
        into.zero()
        chosen.forEachIndexed { row, sample ->
            for (line in 0 until lines) {
                val (source, target) = (sample * lines + line) * length * elements to (row * lines + line) * cut * elements
                for (byte in 0 until cut * elements) to.put(target + byte, from.get(source + byte))
            }
        }
    }
}

/** Checks and tokenizes examples for an artifact; [labels] are those in use, in head order. */
internal fun tokenized(
    given: List<Example>,
    manifest: Manifest,
    tokenizer: Tokenizer,
    labels: List<String>,
    labelled: Boolean,
    classWeights: String?,
): Dataset {
    val info = manifest.task
    val task = TASKS.getValue(info.name)
    if (given.isEmpty()) throw DataError("the data holds no examples; add at least one")
    val examples = given.mapIndexed { index, example ->
        fun refuse(problem: String): Nothing = throw DataError("data[$index]: $problem")
        if (example.textB.isNullOrEmpty() == info.pair) {
            refuse("the artifact takes ${if (info.pair) "pairs (text and textB)" else "single texts"}")
        }
        task.read(example.copy(textB = example.textB.takeIf { info.pair }), labelled, ::refuse).also {
            if (!it.texts().all(::isWhole)) refuse("a text holds half a surrogate pair; remove it")
        }
    }
    val samples = task.samples(examples, tokenizer, manifest.tokens.maxLength, labels.takeIf { labelled }, info.rows)
    return Dataset(
        samples,
        IntArray(samples.tokens.size) { manifest.seqFor(samples.tokens[it].ids.size) },
        if (classWeights == null) FloatArray(samples.tokens.size) { 1f } else task.balancedWeights(samples.targets, labels.size),
        labels,
        classWeights,
        fingerprint(examples),
    )
}

private fun Example.texts(): List<String> =
    listOfNotNull(text, textB, label) + labels.orEmpty() + words.orEmpty() + tags.orEmpty() + answers.orEmpty().map { it.text }

private fun isWhole(text: String): Boolean = text.codePoints().noneMatch { it in 0xD800..0xDFFF }
