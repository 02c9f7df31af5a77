package io.github.effine

import kotlin.math.abs
import kotlin.math.sqrt

/**
 * What replaying an artifact's golden run showed on this device.
 *
 * @property lossError the largest error of a step's loss, relative to PyTorch's.
 * @property changeError how far the parameters end from PyTorch's, relative to their change over the run.
 */
class SelfTest internal constructor(
    val lossError: Double,
    val lossLimit: Double,
    val changeError: Double,
    val changeLimit: Double,
) {
    /** Whether this device trains as PyTorch does, within the artifact's tolerances. */
    val passed: Boolean get() = lossError <= lossLimit && changeError <= changeLimit

    override fun toString(): String = (if (passed) "passed" else "failed") +
        ": loss off by %.1e (limit %.1e), change of the parameters by %.1e (limit %.1e)"
            .format(java.util.Locale.ROOT, lossError, lossLimit, changeError, changeLimit)
}

/**
 * Replays the golden run with this device's runtime, and compares losses and parameters with PyTorch's.
 *
 * It takes as long as the training steps that were recorded, and changes nothing that is stored.
 *
 * @param threads size of ExecuTorch's thread pool; by default its own choice.
 * @throws EngineError the runtime can't run the programs.
 */
@JvmOverloads
fun Artifact.selfTest(threads: Int? = null): SelfTest =
    Engine(this, threads).use { compared(Replay(this, it).run()) }

/** Compares a replay's result with the golden run, which starts from the initial parameters unless it has its own. */
internal fun Artifact.compared(result: Tensors): SelfTest {
    val limits = manifest.tolerances
    val golden = initialState().tensors.mapKeys { "start.${it.key}" } + golden().tensors
    val expected = golden.getValue("loss").floats()
    val found = result.getValue("loss").floats()
    val losses = (0 until expected.capacity()).map { abs(found.get(it) - expected.get(it)).toDouble() / abs(expected.get(it)) }
    return SelfTest(
        losses.reduce(::worse), limits.getValue("loss"), changeError(golden, result, limits), limits.getValue("change"),
    )
}

/** NaN is the worst. */
private fun worse(a: Double, b: Double): Double = if (a.isNaN() || a > b) a else b

/** Over the tensors whose gradients aren't mere rounding. */
private fun changeError(golden: Tensors, result: Tensors, limits: Map<String, Double>): Double {
    val floor = limits.getValue("gradient_floor") * norm(
        golden.keys.filter { it.startsWith("gradient.") }
            .map { golden["norm.$it"]?.floats()?.get(0)?.toDouble() ?: norm(golden.getValue(it).values()) },
    )
    var difference = 0.0
    var change = 0.0
    for (name in golden.keys.filter { it.startsWith("end.") }.map { it.removePrefix("end.") }) {
        if (norm(golden.getValue("gradient.$name").values()) <= floor) continue
        val end = golden.getValue("end.$name").values()
        val start = golden.picked(golden.getValue("start.$name"), name)
        val found = golden.picked(result.getValue("end.$name"), name)
        for (k in end.indices) {
            difference += (found[k] - end[k]) * (found[k] - end[k])
            change += (end[k] - start[k]) * (end[k] - start[k])
        }
    }
    return sqrt(difference / change)
}

/** The entries that the golden run has recorded of a tensor. */
private fun Tensors.picked(whole: Tensor, name: String): List<Double> {
    val sample = get("sample.$name")?.longs() ?: return whole.values()
    val values = whole.floats()
    return List(sample.capacity()) { values.get(sample.get(it).toInt()).toDouble() }
}

private fun Tensor.values(): List<Double> = floats().let { values -> List(count) { values.get(it).toDouble() } }

private fun norm(values: List<Double>): Double = sqrt(values.sumOf { it * it })
