package io.github.effine

import kotlin.math.abs
import kotlin.math.sqrt

/** All metrics of a task by name, the main one first. */
internal fun evaluate(task: TaskInfo, logits: List<FloatArray>, targets: Tensor): Map<String, Double> {
    if (task.isRegression) {
        val scores = DoubleArray(logits.size) { logits[it][0].toDouble() }
        val wanted = targets.floats().let { view -> DoubleArray(logits.size) { view.get(it).toDouble() } }
        val squares = DoubleArray(scores.size) { (scores[it] - wanted[it]) * (scores[it] - wanted[it]) }
        return linkedMapOf(
            "pearson" to pearson(scores, wanted),
            "spearman" to pearson(ranks(scores), ranks(wanted)),
            "mse" to pairwiseSum(squares) / squares.size,
        )
    }
    val predicted = IntArray(logits.size) { largest(logits[it]) }
    val labels = targets.longs().let { view -> IntArray(logits.size) { view.get(it).toInt() } }
    return linkedMapOf("accuracy" to accuracy(predicted, labels), "macro_f1" to macroF1(predicted, labels))
}

/** The metric that decides which epoch was best. */
internal fun mainMetric(task: TaskInfo): String = if (task.isRegression) "pearson" else "accuracy"

/** The position of the largest value, the first of equals. */
internal fun largest(values: FloatArray): Int {
    var best = 0
    for (i in values.indices) if (values[i] > values[best]) best = i
    return best
}

internal fun accuracy(predicted: IntArray, labels: IntArray): Double =
    predicted.indices.count { predicted[it] == labels[it] }.toDouble() / predicted.size

/** The mean F1 over the classes that occur in labels or predictions. */
internal fun macroF1(predicted: IntArray, labels: IntArray): Double {
    val scores = (predicted.toSet() + labels.toSet()).sorted().map { name ->
        val right = predicted.indices.count { predicted[it] == name && labels[it] == name }
        2.0 * right / (predicted.count { it == name } + labels.count { it == name })
    }
    return pairwiseSum(scores.toDoubleArray()) / scores.size
}

/** The linear correlation; 0 if either is constant. */
internal fun pearson(a: DoubleArray, b: DoubleArray): Double {
    if (a.all { it == a[0] } || b.all { it == b[0] }) return 0.0
    val (x, y) = direction(a) to direction(b)
    return x.indices.sumOf { x[it] * y[it] }.coerceIn(-1.0, 1.0)
}

/** Deviations from the mean, of norm 1; scaled first so that their squares don't vanish. */
private fun direction(values: DoubleArray): DoubleArray {
    val mean = pairwiseSum(values) / values.size
    val largest = values.maxOf { abs(it - mean) }
    val scaled = DoubleArray(values.size) { (values[it] - mean) / largest }
    val norm = sqrt(scaled.sumOf { it * it })
    return DoubleArray(values.size) { scaled[it] / norm }
}

/** Ranks from 1, ties sharing their mean rank. */
internal fun ranks(values: DoubleArray): DoubleArray {
    val order = values.indices.sortedBy { values[it] }
    val ranks = DoubleArray(values.size)
    var start = 0
    while (start < order.size) {
        var end = start
        while (end < order.size && values[order[end]] == values[order[start]]) end++
        for (i in start until end) ranks[order[i]] = (start + 1 + end) / 2.0
        start = end
    }
    return ranks
}
