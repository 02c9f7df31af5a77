package io.github.effine

/** The position of a label among those in use; [index] is the example's. */
internal fun position(label: String, labels: List<String>, index: Int): Int = labels.indexOf(label).also {
    if (it < 0) {
        throw DataError("data[$index]: unknown label '$label'; add it with addLabel, or export again with this data")
    }
}

/**
 * Example weights by the inverse frequency of the label, or the mean of those of several; their mean is 1.
 *
 * @param targets positions [N] int64, or [N, C] float32 with 1 for what applies; examples to which no label
 *   applies are a class of their own.
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
