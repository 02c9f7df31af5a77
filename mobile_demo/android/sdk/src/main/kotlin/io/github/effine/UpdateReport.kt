package io.github.effine

/** What became of an update. */
enum class Outcome {
    /** The slice ended early; the next [Personalization.update] goes on. */
    PAUSED,

    /** The new state is in use. */
    ACCEPTED,

    /** The new state scored worse by more than the margin; the former stays in use. */
    REJECTED,

    /** Examples were forgotten, or the state went back, while this trained on; what it learned is dropped. */
    WITHDRAWN,
}

/**
 * What an update did.
 *
 * @property time when, in milliseconds since 1970.
 * @property metric by which states are compared; higher is better.
 * @property before score of the state in use on the held-out examples; null unless the training ended.
 * @property after score of the new state on them.
 * @property heldOut how many examples the scores are from.
 * @property training what happened in the training.
 */
class UpdateReport internal constructor(
    val outcome: Outcome,
    val time: Long,
    val metric: String,
    val before: Double?,
    val after: Double?,
    val heldOut: Int,
    val training: Report,
) {
    /** One sentence for the user. */
    val summary: String
        get() = TODO()
}
