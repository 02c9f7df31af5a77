package io.github.effine

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs

/**
 * One text or pair of texts with what is to be learned from it.
 *
 * @property textB the second text of a pair.
 * @property label the class, for classification.
 * @property score the target, for regression.
 */
data class Example(
    val text: String,
    val label: String? = null,
    val textB: String? = null,
    val score: Double? = null,
)

/** Checks examples, as a list that [DataError] can name by index. */
internal fun checkExamples(examples: List<Example>, task: TaskInfo, labelled: Boolean) {
    if (examples.isEmpty()) throw DataError("the data holds no examples; add at least one")
    examples.forEachIndexed { index, example ->
        fun refuse(problem: String): Nothing = throw DataError("data[$index]: $problem")
        if ((example.textB != null) != task.pair) {
            refuse("the artifact takes ${if (task.pair) "pairs (text and textB)" else "single texts"}")
        }
        for (text in listOfNotNull(example.text, example.textB, example.label)) {
            if (!isWhole(text)) refuse("a text holds half a surrogate pair; remove it")
        }
        when {
            !labelled -> Unit
            task.isRegression -> if (!(abs(example.score ?: Double.NaN) <= Float.MAX_VALUE)) {
                refuse("score ${example.score} is not a finite number; give one such as 3.5")
            }
            example.label.isNullOrBlank() -> refuse("the label is empty; give one or remove the example")
        }
    }
}

private fun isWhole(text: String): Boolean = text.codePoints().noneMatch { it in 0xD800..0xDFFF }

/** Positions of the examples' labels in [labels] as int64, or their scores as float32; zeros without. */
internal fun targets(examples: List<Example>, task: TaskInfo, labels: List<String>, labelled: Boolean): Tensor {
    if (task.isRegression) {
        val scores = FloatArray(examples.size) { if (labelled) examples[it].score!!.toFloat() else 0f }
        return Tensor.floats(listOf(examples.size), scores)
    }
    val targets = Tensor(DType.I64, listOf(examples.size))
    if (!labelled) return targets
    val values = targets.longs()
    examples.forEachIndexed { index, example ->
        val position = labels.indexOf(example.label)
        if (position < 0) {
            throw DataError(
                "data[$index]: unknown label '${example.label}'; add it with addLabel, or export again with " +
                    "this data",
            )
        }
        values.put(position.toLong())
    }
    return targets
}

/** Weights that give every class that occurs the same total; their mean is 1. */
internal fun balancedWeights(targets: Tensor): FloatArray {
    val view = targets.longs()
    val labels = LongArray(targets.count) { view.get(it) }
    val counts = labels.toList().groupingBy { it }.eachCount()
    return FloatArray(labels.size) { (labels.size.toDouble() / (counts.size * counts.getValue(labels[it]))).toFloat() }
}

/** The sha256 of the examples' content and order, as Python's effine.runtime.data specifies it. */
internal fun fingerprint(examples: List<Example>, labelled: Boolean): String {
    val digest = sha256()
    fun number(size: Int) = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    for (example in examples) {
        for (text in listOf(example.text, example.textB, example.label.takeIf { labelled })) {
            digest.update((if (text == null) 0 else 1).toByte())
            if (text == null) continue
            val bytes = text.toByteArray()
            digest.update(number(Long.SIZE_BYTES).putLong(bytes.size.toLong()).array())
            digest.update(bytes)
        }
        val score = example.score.takeIf { labelled }
        digest.update((if (score == null) 0 else 1).toByte())
        if (score != null) digest.update(number(Double.SIZE_BYTES).putDouble(score).array())
    }
    return digest.hex()
}
