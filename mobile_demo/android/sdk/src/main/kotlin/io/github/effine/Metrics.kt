package io.github.effine

import kotlin.math.abs
import kotlin.math.sqrt

/**
 * F1 over all decisions, and the mean of the labels' F1, where a label that neither applies nor is
 * predicted anywhere counts as 0; a label is predicted where its logit is above 0.
 */
internal fun labelF1(logits: List<FloatArray>, applying: List<List<Int>>): Map<String, Double> {
    val (right, named) = IntArray(logits.first().size) to IntArray(logits.first().size)
    for ((row, wanted) in logits.zip(applying)) {
        val predicted = row.indices.filter { row[it] > 0 }
        for (label in predicted + wanted) named[label]++
        for (label in predicted.intersect(wanted.toSet())) right[label]++
    }
    val scores = DoubleArray(right.size) { 2.0 * right[it] / maxOf(1, named[it]) }
    return linkedMapOf(
        "micro_f1" to 2.0 * right.sum() / maxOf(1, named.sum()),
        "macro_f1" to pairwiseSum(scores) / scores.size,
    )
}

/** The position of the largest value, the first of equals. */
internal fun largest(values: FloatArray): Int {
    var best = 0
    for (i in values.indices) if (values[i] > values[best]) best = i
    return best
}

/** The position of the largest value, the first of equals. */
internal fun largest(values: DoubleArray): Int = values.indices.maxBy { values[it] }

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
