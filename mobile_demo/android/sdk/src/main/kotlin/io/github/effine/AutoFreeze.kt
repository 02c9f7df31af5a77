package io.github.effine

import kotlin.math.abs
import kotlin.math.floor

private const val CUT = "cut"
private const val CHANGES = "changes"

/** AutoFreeze: which layers have settled and freeze; see effine.runtime.policies.autofreeze. */
internal class AutoFreeze(manifest: Manifest, private val updates: Int) : Policy {
    private val interval: Int
    private val share: Double
    private val cuts = manifest.phases.keys.map(::cutOf)
    private val layers = manifest.state.filter { it.role == StateTensor.STATISTIC }
        .map { it.name to it.group.substringAfterLast('.').toInt() }

    init {
        val options = Fields(manifest.options.entries, "method.options")
        interval = maxOf(options["least_updates"].positive(), updates / options["intervals"].positive())
        share = options["percentile"].number()
    }

    override fun decide(memory: Json.Table, update: Int, phase: String, state: State): Decision? {
        if (update % interval != 0 || update >= updates) return null
        val start = cutOf(phase)
        val changes = changes(start, state)
        val remembered = Json.Table(mapOf(CHANGES to Json.Table(changes.entries.associate { "${it.key}" to Json.of(it.value) })))
        val found = mapOf(CHANGES to Json.Items(changes.values.map { Json.of(it) }))
        val before = Place(memory, "policy").table()[CHANGES]?.table().orEmpty().mapValues { it.value.number() }
        if (before.isEmpty()) {
            return Decision(phase, remembered, "the first interval, nothing to compare with", found)
        }
        val etas = changes.map { (layer, change) -> relative(before.getValue("$layer"), change) }
        val limit = percentile(etas, share)
        val settled = start + etas.indexOfFirst { it >= limit }
        val cut = cuts.filter { it <= settled }.max()
        val more = mapOf("eta" to Json.Items(etas.map(::finiteOrNull)), "limit" to finiteOrNull(limit))
        return Decision("$CUT$cut", remembered, reason(start, settled, cut), found + more)
    }

    /** The sum of absolute gradients of each layer from [start] on, tensors and entries in order. */
    private fun changes(start: Int, state: State): Map<Int, Double> {
        val sums = sortedMapOf<Int, Double>()
        for ((name, layer) in layers) {
            if (layer >= start) sums[layer] = (sums[layer] ?: 0.0) + magnitude(state[name])
        }
        return sums
    }
}

private fun cutOf(phase: String): Int = phase.removePrefix(CUT).toInt()

/** The sum of absolute values, entry after entry in binary64. */
private fun magnitude(tensor: Tensor): Double {
    val values = tensor.floats()
    var total = 0.0
    for (i in 0 until tensor.count) total += abs(values.get(i)).toDouble()
    return total
}

/** Infinite for a layer that had no gradient before and has one now. */
private fun relative(before: Double, after: Double): Double = when {
    before == after -> 0.0
    before == 0.0 -> Double.POSITIVE_INFINITY
    else -> abs(before - after) / before
}

/** The percentile, interpolated linearly between the two nearest of the sorted values. */
internal fun percentile(values: List<Double>, share: Double): Double {
    val ordered = values.sorted()
    val place = (ordered.size - 1) * share / 100.0
    val low = floor(place).toInt()
    val high = minOf(low + 1, ordered.size - 1)
    if (place == low.toDouble() || ordered[low] == ordered[high]) return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
}

private fun finiteOrNull(value: Double): Json = Json.of(value.takeIf { it.isFinite() })

private fun reason(start: Int, settled: Int, cut: Int): String = when {
    settled == start -> "the lowest layer that trains still changes most"
    cut == start -> "layers up to $settled have settled, but there is no cut between $start and $settled"
    else -> "layers up to $settled have settled, those up to $cut freeze"
}
