package io.github.effine

import kotlin.math.abs
import kotlin.math.ceil

private const val PRIME = "prime"
private const val FAR = "far"
private const val LEARNERS = ".learners"
private const val OTHERS = ".others"
private const val ROWS = "rows"
private const val TINY = 1e-300

/** FAR: which nodes of the feed-forward layers go on learning; see effine.runtime.policies.far. */
internal class Far(manifest: Manifest, private val updates: Int) : Policy {
    private val priming: Int
    private val random: Boolean
    private val tensors = LinkedHashMap<String, List<Rows>>()
    private val learners = HashMap<String, Int>()

    init {
        val options = Fields(manifest.options.entries, "method.options")
        val primed = ceil(options["priming"].number() / 100.0 * updates).toInt()
        priming = maxOf(options["least_updates"].positive(), primed)
        random = options["selection"].string() == "random"
        val shapes = manifest.layout(FAR).associate { it.name to it.shape }
        for (rows in manifest.transition(PRIME, FAR).gather) {
            val layer = rows.indices.substringBeforeLast('.')
            if (rows.indices.endsWith(OTHERS)) {
                tensors[layer] = tensors[layer].orEmpty() + rows
            } else {
                learners[layer] = shapes.getValue(rows.target)[rows.axis]
            }
        }
    }

    override fun decide(memory: Json.Table, update: Int, phase: String, state: State): Decision? {
        if (phase != PRIME || update != priming || update >= updates) return null
        val indices = LinkedHashMap<String, List<Int>>()
        val shares = LinkedHashMap<String, Json>()
        tensors.entries.forEachIndexed { number, (layer, parts) ->
            val scores = scores(parts, state)
            val order = scores.indices.sortedByDescending { scores[it] }.toMutableList()
            if (random) SplitMix64(number.toULong()).shuffle(order)
            val chosen = order.take(learners[layer] ?: 0)
            indices[layer + LEARNERS] = chosen.sorted()
            indices[layer + OTHERS] = order.drop(chosen.size).sorted()
            val moved = pairwiseSum(DoubleArray(chosen.size) { scores[chosen[it]] })
            shares[layer] = Json.of(moved / maxOf(pairwiseSum(scores), TINY))
        }
        val rows = Json.Table(indices.mapValues { (_, chosen) -> Json.Items(chosen.map { Json.of(it) }) })
        val reason = "primed: ${learners.values.sum()} nodes of ${tensors.size} layers go on learning"
        val found = mapOf("share_of_movement" to Json.Table(shares))
        return Decision(FAR, Json.Table(mapOf(ROWS to rows)), reason, found, indices)
    }

    override fun wayBack(memory: Json.Table): Indices? = Place(memory, "policy").table()[ROWS]?.table()
        ?.mapValues { (_, rows) -> rows.items().map { it.count() } }

    /** How far each node of a layer has moved: binary64, a tensor's entries in order and tensor after tensor. */
    private fun scores(parts: List<Rows>, state: State): DoubleArray {
        var total = DoubleArray(0)
        for (rows in parts) {
            val tensor = state["${rows.source}.drift"]
            val values = tensor.floats()
            val inner = tensor.shape.drop(rows.axis + 1).fold(1, Int::times)
            val sums = DoubleArray(tensor.shape[rows.axis])
            for (i in 0 until tensor.count) sums[i / inner % sums.size] += abs(values.get(i)).toDouble()
            total = DoubleArray(sums.size) { (total.getOrNull(it) ?: 0.0) + sums[it] }
        }
        return total
    }
}
