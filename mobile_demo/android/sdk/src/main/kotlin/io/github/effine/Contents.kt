package io.github.effine

private const val HELD_OUT_FROM = 3
private const val HELD_OUT_EVERY = 5
private const val HELD_OUT_MOST = 200
private const val LOGGED = 20

/**
 * An example of the user's, as it is kept.
 *
 * @property id never given twice.
 * @property heldOut states are scored on it and never trained with it.
 */
class StoredExample internal constructor(val id: Long, val example: Example, val heldOut: Boolean)

/**
 * A state in use now or before.
 *
 * @property id names its file; 0 is the artifact's initial state.
 * @property forgotten [Contents.forgotten] when it was learned.
 */
internal data class LearnedState(val id: Long, val forgotten: Int)

private val INITIAL = LearnedState(0, 0)

/**
 * A training run that hasn't ended; its data and labels are those of when it began.
 *
 * @property id of the state that it makes, whose file is its checkpoint.
 * @property from id of the state that it starts from.
 * @property until it trains with the examples below this id.
 * @property labels how many of those added here it knows.
 * @property artifact the hash of the manifest it trains with.
 */
internal data class OpenRun(
    val id: Long,
    val from: Long,
    val until: Long,
    val labels: Int,
    val classWeights: String?,
    val artifact: String,
)

/**
 * All that a [Personalization] knows but for the states themselves. A change makes a new value, and
 * everything that follows from it, such as which files are no longer needed, is computed.
 *
 * @property labels those added to the artifact's.
 * @property nextExample id of the next example.
 * @property learned examples below this id were in a run that ended.
 * @property forgotten how often examples were forgotten that a run may have seen.
 * @property states those to go back to, the one in use last.
 * @property nextState id of the next state.
 * @property reports of the last runs that ended.
 */
internal data class Contents(
    val labels: List<String> = emptyList(),
    val examples: List<StoredExample> = emptyList(),
    val nextExample: Long = 1,
    val learned: Long = 0,
    val forgotten: Int = 0,
    val states: List<LearnedState> = listOf(INITIAL),
    val nextState: Long = 1,
    val run: OpenRun? = null,
    val reports: List<UpdateReport> = emptyList(),
) {
    val inUse: Long get() = states.last().id

    /** Whether the state in use has learned examples that were forgotten. */
    val mustUnlearn: Boolean get() = inUse != INITIAL.id && states.last().forgotten != forgotten

    /** The state that stays unless a new one is accepted. */
    val base: Long get() = if (mustUnlearn) INITIAL.id else inUse

    val due: Boolean
        get() = run != null || trainable && (mustUnlearn || examples.any { it.id >= learned && !it.heldOut })

    private val trainable: Boolean get() = examples.any { it.heldOut } && examples.any { !it.heldOut }

    /** The ids of the states whose files are needed. */
    val needed: Set<Long> get() = states.map { it.id }.toSet() + listOfNotNull(run?.id, run?.from)

    /** Adds examples that aren't there yet; of each label the third and then about one in five is held out. */
    fun add(given: List<Example>): Contents {
        val added = (given.toSet() - examples.map { it.example }.toSet()).toList()
        if (added.isEmpty()) return this
        if (examples.size + added.size > MAX_ENTRIES) throw DataError("more than $MAX_ENTRIES examples; forget some first")
        val counts = HashMap<Any?, Count>()
        for (example in examples) counts.getOrPut(group(example.example)) { Count() }.add(example.heldOut)
        var heldOut = examples.count { it.heldOut }
        val stored = added.mapIndexed { index, example ->
            val count = counts.getOrPut(group(example)) { Count() }
            val holds = heldOut < HELD_OUT_MOST && count.wantsOne
            if (holds) heldOut++
            count.add(holds)
            StoredExample(nextExample + index, example, holds)
        }
        return copy(examples = examples + stored, nextExample = nextExample + stored.size)
    }

    /** How many examples of a label there are. */
    private class Count(private var all: Int = 0, private var heldOut: Int = 0) {
        /** Whether the next one should be held out. */
        val wantsOne: Boolean get() = all + 1 >= HELD_OUT_FROM && heldOut * HELD_OUT_EVERY < all + 1

        fun add(holds: Boolean) {
            all++
            if (holds) heldOut++
        }
    }

    private fun group(example: Example): Any? = example.label ?: example.labels?.toSet()

    /** Without some examples; what may have learned them goes, but for the state in use if it can be replaced. */
    fun forget(ids: Set<Long>): Contents {
        val gone = examples.filter { it.id in ids }
        if (gone.isEmpty()) return this
        val left = copy(examples = examples - gone.toSet())
        if (gone.none { it.id < maxOf(learned, run?.until ?: 0) }) return left
        val stays = if (left.trainable) states.last() else INITIAL
        return left.copy(forgotten = forgotten + 1, run = null, states = listOf(stays))
    }

    /** Back to the state before, if there is one. */
    fun rollback(): Contents = if (states.size == 1) this else copy(states = states.dropLast(1), run = null)

    /** Back to the initial state. */
    fun reset(): Contents {
        val used = examples.flatMap { listOfNotNull(it.example.label) + it.example.labels.orEmpty() }.toSet()
        return copy(
            labels = labels.filter { it in used },
            learned = 0,
            forgotten = forgotten + 1,
            states = listOf(INITIAL),
            run = null,
        )
    }

    /** With a run; the one that there is goes on. */
    fun begin(classWeights: String?, artifact: String): Contents {
        if (run != null) return this
        if (!trainable) {
            throw DataError("too few examples: states are scored on the third of a label, so give a label three or more")
        }
        val run = OpenRun(nextState, base, nextExample, labels.size, classWeights, artifact)
        return copy(nextState = nextState + 1, run = run)
    }

    /** With a new run of another artifact in place of [run], on the same data, starting from a state. */
    fun takeOver(run: OpenRun, from: Long, artifact: String): Contents =
        copy(nextState = nextState + 1, run = run.copy(id = nextState, from = from, artifact = artifact))

    /** After a run; the state in use is the new one if that was accepted. */
    fun end(run: OpenRun, report: UpdateReport, keep: Int): Contents {
        val former = if (mustUnlearn) listOf(INITIAL) else states
        val learnt = LearnedState(run.id, forgotten).takeIf { report.outcome == Outcome.ACCEPTED }
        return copy(
            learned = run.until,
            states = (former + listOfNotNull(learnt)).takeLast(keep),
            run = null,
            reports = (reports + report).takeLast(LOGGED),
        )
    }
}
