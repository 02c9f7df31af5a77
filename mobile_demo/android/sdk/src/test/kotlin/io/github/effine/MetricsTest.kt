package io.github.effine

import io.github.effine.tasks.Classification
import io.github.effine.tasks.MultiLabel
import io.github.effine.tasks.Samples
import io.github.effine.tasks.Task
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class MetricsTest {
    private val labels = listOf("a", "b", "c")

    private fun evaluated(task: Task, logits: List<FloatArray>, targets: Tensor) =
        task.evaluate(logits, Samples(emptyList(), emptyList(), IntArray(0), targets, 0), labels)

    @Test
    fun classification() {
        val logits = listOf(floatArrayOf(2f, 1f, 0f), floatArrayOf(0f, 1f, 1f), floatArrayOf(0f, 3f, 1f), floatArrayOf(1f, 0f, 0f))
        val targets = Tensor(DType.I64, listOf(4)).also { it.longs().put(longArrayOf(0, 1, 2, 1)) }
        val metrics = evaluated(Classification, logits, targets)
        assertEquals(listOf("accuracy", "macro_f1"), metrics.keys.toList())
        assertEquals(0.5, metrics.getValue("accuracy"), 0.0)
        assertEquals((2.0 / 3 + 0.5 + 0.0) / 3, metrics.getValue("macro_f1"), 1e-15)
    }

    @Test
    fun `several labels`() {
        val logits = listOf(floatArrayOf(2f, -1f, 0f), floatArrayOf(1f, 1f, -1f))
        val targets = Tensor.floats(listOf(2, 4), floatArrayOf(1f, 0f, 0f, 0f, 0f, 1f, 0f, 0f))
        val metrics = evaluated(MultiLabel, logits, targets)
        assertEquals(listOf("micro_f1", "macro_f1"), metrics.keys.toList())
        assertEquals(4.0 / 5, metrics.getValue("micro_f1"), 0.0)
        assertEquals((2.0 / 3 + 1.0 + 0.0) / 3, metrics.getValue("macro_f1"), 1e-15)
        assertArrayEquals(floatArrayOf(1f, 1f), balancedWeights(targets, 3), 0f)
    }

    @Test
    fun correlations() {
        val values = doubleArrayOf(1.0, 2.0, 2.0, 4.0)
        assertEquals(1.0, pearson(values, DoubleArray(4) { 3 * values[it] - 7 }), 1e-15)
        assertEquals(-1.0, pearson(values, DoubleArray(4) { -values[it] }), 1e-15)
        assertEquals(0.0, pearson(values, DoubleArray(4) { 5.0 }), 0.0)
        assertArrayEquals(doubleArrayOf(1.0, 2.5, 2.5, 4.0), ranks(values), 0.0)
    }

    @Test
    fun `sums are numpy's`() {
        val values = FloatArray(300) { 0.1f * it }
        assertEquals(4485f, pairwiseSum(values), 1e-3f)
        assertEquals(0.1f + 0.2f + 0.3f, pairwiseSum(floatArrayOf(0.1f, 0.2f, 0.3f)), 0f)
    }
}
