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
 * @property labels those that apply, perhaps none, for several labels.
 */
data class Example(
    val text: String,
    val label: String? = null,
    val textB: String? = null,
    val score: Double? = null,
    val labels: List<String>? = null,
)

/** Checks examples, as a list that [DataError] can name by index. */
internal fun checkExamples(examples: List<Example>, task: TaskInfo, labelled: Boolean) {
    if (examples.isEmpty()) throw DataError("the data holds no examples; add at least one")
    examples.forEachIndexed { index, example ->
        fun refuse(problem: String): Nothing = throw DataError("data[$index]: $problem")
        if ((example.textB != null) != task.pair) {
            refuse("the artifact takes ${if (task.pair) "pairs (text and textB)" else "single texts"}")
        }
        for (text in listOfNotNull(example.text, example.textB, example.label) + example.labels.orEmpty()) {
            if (!isWhole(text)) refuse("a text holds half a surrogate pair; remove it")
        }
        when {
            !labelled -> Unit
            task.name == TaskInfo.REGRESSION -> if (!(abs(example.score ?: Double.NaN) <= Float.MAX_VALUE)) {
                refuse("score ${example.score} is not a finite number; give one such as 3.5")
            }
            task.name == TaskInfo.MULTILABEL -> {
                val given = example.labels ?: refuse("has no labels; give those that apply, or an empty list")
                if (given.any { it.isBlank() }) refuse("a label is empty; give one or remove it")
                if (given.distinct() != given) refuse("a label is given twice; remove one")
            }
            example.label.isNullOrBlank() -> refuse("the label is empty; give one or remove the example")
        }
    }
}

private fun isWhole(text: String): Boolean = text.codePoints().noneMatch { it in 0xD800..0xDFFF }

/** The examples' targets as [Dataset] has them, for [labels] in head order. */
internal fun targets(examples: List<Example>, task: TaskInfo, labels: List<String>, labelled: Boolean): Tensor {
    val given = if (labelled) examples else emptyList()
    fun position(index: Int, label: String?): Int = labels.indexOf(label).also {
        if (it < 0) {
            throw DataError(
                "data[$index]: unknown label '$label'; add it with addLabel, or export again with this data",
            )
        }
    }
    return when (task.name) {
        TaskInfo.REGRESSION -> Tensor(DType.F32, listOf(examples.size)).also { targets ->
            given.forEachIndexed { index, example -> targets.floats().put(index, example.score!!.toFloat()) }
        }
        TaskInfo.MULTILABEL -> Tensor(DType.F32, listOf(examples.size, task.rows)).also { targets ->
            given.forEachIndexed { index, example ->
                for (label in example.labels!!) targets.floats().put(index * task.rows + position(index, label), 1f)
            }
        }
        else -> Tensor(DType.I64, listOf(examples.size)).also { targets ->
            given.forEachIndexed { index, example -> targets.longs().put(index, position(index, example.label).toLong()) }
        }
    }
}

/**
 * Example weights by the inverse frequency of the label, or the mean of those of several; their mean is 1.
 *
 * @param targets as [Dataset] has them; examples to which no label applies are a class of their own.
 * @param labels how many there are.
 */
internal fun balancedWeights(targets: Tensor, labels: Int): FloatArray {
    val classes = applying(targets, labels).map { it.ifEmpty { listOf(labels) } }
    val frequencies = IntArray(labels + 1)
    for (each in classes) for (label in each) frequencies[label]++
    val weights = DoubleArray(classes.size) { sample ->
        classes[sample].sumOf { 1.0 / frequencies[it] } / classes[sample].size
    }
    val mean = pairwiseSum(weights) / weights.size
    return FloatArray(weights.size) { (weights[it] / mean).toFloat() }
}

/** For each sample the positions of the labels that apply, among the first [labels]. */
internal fun applying(targets: Tensor, labels: Int): List<List<Int>> {
    val samples = targets.shape[0]
    if (targets.dtype == DType.I64) {
        val view = targets.longs()
        return List(samples) { listOf(view.get(it).toInt()) }
    }
    val (view, rows) = targets.floats() to targets.shape[1]
    return List(samples) { sample -> (0 until labels).filter { view.get(sample * rows + it) > 0 } }
}

/** The sha256 of the examples' content and order, as Python's effine.runtime.data specifies it. */
internal fun fingerprint(examples: List<Example>, labelled: Boolean): String {
    val digest = sha256()
    fun number(size: Int) = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    fun update(text: String?) {
        digest.update((if (text == null) 0 else 1).toByte())
        if (text == null) return
        val bytes = text.toByteArray()
        digest.update(number(Long.SIZE_BYTES).putLong(bytes.size.toLong()).array())
        digest.update(bytes)
    }
    for (example in examples) {
        listOf(example.text, example.textB, example.label.takeIf { labelled }).forEach(::update)
        val score = example.score.takeIf { labelled }
        digest.update((if (score == null) 0 else 1).toByte())
        if (score != null) digest.update(number(Double.SIZE_BYTES).putDouble(score).array())
        val labels = example.labels.takeIf { labelled } ?: continue
        digest.update(number(Long.SIZE_BYTES).putLong(labels.size.toLong()).array())
        labels.forEach(::update)
    }
    return digest.hex()
}
