package io.github.effine

import kotlin.math.ceil
import kotlin.math.floor

private const val GATES = "gates"
private const val PREFIX = "encoder.gates."
private const val SUFFIX = ".values"
private const val FEWEST = 2
private const val OPEN = 0.5f
private const val LOW = 0.1f
private const val HIGH = 0.9f
private const val POLARISED = 0.1

/** Token gates: which rung of the ladder follows on learned gates; see effine.runtime.policies.gates. */
internal class Gates(manifest: Manifest, private val updates: Int) : Policy {
    private val learning: Int
    private val seq = manifest.tokens.maxLength
    private val fewest = if (manifest.task.pair) 2 else 1
    private val names = manifest.parameters.map { it.name }.filter { it.startsWith(PREFIX) }.sortedBy(::layerOf)

    /** How many tokens each rung keeps in all layers together, smallest first. */
    private val rungs: List<Pair<Int, String>>

    init {
        val options = Fields(manifest.options.entries, "method.options")
        learning = ceil(options["learning"].number() / 100.0 * updates).toInt()
        val ladder = if (names.isEmpty()) emptyList() else manifest.phases.keys - GATES
        val shares = options["keep"].string().split(",").take(ladder.size)
        rungs = ladder.zip(shares) { phase, rung -> counts(rung, names.size, seq).sum() to phase }
            .sortedWith(compareBy({ it.first }, { it.second }))
    }

    override fun decide(memory: Json.Table, update: Int, phase: String, state: State): Decision? {
        if (phase != GATES || update != learning) return null
        val learned = learned(state)
        val shown = learned.joinToString(":") { rounded(it.toDouble() / seq, 4) }
        val found = mapOf("counts" to Json.Items(learned.map { Json.of(it) }), "keep" to Json.Text(shown))
        val nothing = Json.Table(emptyMap())
        val reason = "of $seq tokens the layers need ${learned.joinToString(", ")}"
        if (update == updates || rungs.isEmpty()) {
            return Decision(GATES, nothing, "$reason; export them with keep=$shown", found)
        }
        val rung = rungs.firstOrNull { it.first >= learned.sum() } ?: rungs.last()
        return Decision(rung.second, nothing, "$reason (keep=$shown)", found, afresh = true)
    }

    /** How many tokens each layer with a gate needs, from the lowest on. */
    private fun learned(state: State): List<Int> {
        val found = ArrayList<Int>()
        for (name in names) {
            val gates = state[name].floats()
            val count = maxOf(fewest, needed(FloatArray(minOf(seq, gates.limit())) { gates.get(it) }))
            found += minOf(count, found.lastOrNull() ?: count)
        }
        return found
    }
}

private fun layerOf(name: String): Int = name.removePrefix(PREFIX).removeSuffix(SUFFIX).toIntOrNull()
    ?: throw ArtifactError("'$name' is no gate of a layer; export the artifact again")

/** How many tokens a layer's gates, one for each rank, let through. */
internal fun needed(gates: FloatArray): Int {
    val undecided = gates.count { it > LOW && it < HIGH }
    if (undecided < POLARISED * gates.size) return gates.count { it >= OPEN }
    var sum = 0.0
    for (gate in gates) sum += gate
    return floor(sum).toInt()
}

/** How many of [seq] tokens a rung, such as `0.5` or `0.9:0.7`, keeps in each layer. */
internal fun counts(rung: String, layers: Int, seq: Int): List<Int> {
    val shares = rung.split(":").map {
        it.trim().toDoubleOrNull() ?: throw ArtifactError("'$it' is no share of tokens; export the artifact again")
    }
    val chosen = if (shares.size == 1) falling(shares[0], layers) else shares
    return chosen.map { minOf(seq, maxOf(FEWEST, floor(it * seq + 0.5).toInt())) }
}

/** Shares with this mean, each the same part of the one before, found by bisection. */
private fun falling(mean: Double, layers: Int): List<Double> {
    var (low, high) = 0.0 to 1.0
    while (true) {
        val factor = (low + high) / 2
        if (factor <= low || factor >= high) return powers(high, layers)
        if (powers(factor, layers).reduce(Double::plus) < mean * layers) low = factor else high = factor
    }
}

/** The first powers of a factor, each the one before times the factor. */
private fun powers(factor: Double, count: Int): List<Double> =
    generateSequence(factor) { it * factor }.take(count).toList()
