package io.github.effine

/**
 * A transition to [phase], which may be the present one.
 *
 * @property memory what the policy has to remember.
 * @property reason for people, in a line.
 * @property found the numbers behind it.
 * @property indices the rows that the transition takes.
 * @property afresh the phase computes something else, so that metrics measured before say nothing of it.
 */
internal class Decision(
    val phase: String,
    val memory: Json.Table,
    val reason: String,
    val found: Map<String, Json>,
    val indices: Indices = emptyMap(),
    val afresh: Boolean = false,
)

/** What a method decides between updates, over the state alone: the same as in Python, to the last bit. */
internal interface Policy {
    /**
     * What follows from the state after [update] updates of the run, or null to go on as before.
     *
     * @param memory what the last decision remembered, at first empty.
     */
    fun decide(memory: Json.Table, update: Int, phase: String, state: State): Decision?

    /** The rows with which the parameters get their original layout back after a run; null if they kept it. */
    fun wayBack(memory: Json.Table): Indices? = null
}

/** The policy of the artifact's method in a run of so many updates; most have none. */
internal fun policyFor(manifest: Manifest, updates: Int): Policy? = when {
    manifest.method == "autofreeze" -> AutoFreeze(manifest, updates)
    manifest.method == "far" -> Far(manifest, updates)
    manifest.method == "gates" -> Gates(manifest, updates)
    manifest.phases.isEmpty() -> null
    else -> throw ArtifactError("method ${manifest.method} can't be trained by this version; update effine")
}
