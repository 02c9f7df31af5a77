package io.github.effine

/** What became of an update. */
enum class Outcome {
    /** The slice ended early; the next [Personalization.update] goes on. */
    PAUSED,

    /** The new state is in use. */
    ACCEPTED,

    /** The new state scored worse by more than the margin; the former stays in use. */
    REJECTED,

    /** Examples were forgotten, or the state went back, while this trained; what it learned is dropped. */
    WITHDRAWN,
}

/**
 * What an update did.
 *
 * @property time when it ended, in milliseconds since 1970.
 * @property metric by which states are compared, higher is better; null unless the training ended.
 * @property before score on the held-out examples of the state that would stay, which is the initial
 *   one where examples have to be unlearned; null unless the training ended.
 * @property after score of the new state on them.
 * @property heldOut how many examples the scores are from.
 * @property training what happened in the training.
 */
class UpdateReport internal constructor(
    val outcome: Outcome,
    val time: Long,
    val metric: String?,
    val before: Double?,
    val after: Double?,
    val heldOut: Int,
    val training: Report,
) {
    /** One line on what was found and done. */
    val summary: String
        get() = when (outcome) {
            Outcome.PAUSED -> "paused; the next update goes on"
            Outcome.WITHDRAWN -> "examples were forgotten or the state went back meanwhile: what was learned is dropped"
            Outcome.ACCEPTED -> "$scores: the new state is in use"
            Outcome.REJECTED -> "$scores: the new state is dropped, the former stays in use"
        }

    private val scores: String
        get() {
            val (then, now) = listOf(before, after).map { if (it == null) "?" else fixed(it, 3) }
            return "$metric $then before, $now after, on $heldOut held-out examples"
        }

    internal fun toJson(): Json = Json.Table(
        mapOf(
            "outcome" to Json.Text(outcome.name.lowercase()),
            "time" to Json.Whole(time),
            "metric" to Json.of(metric),
            "before" to Json.of(before),
            "after" to Json.of(after),
            "held_out" to Json.of(heldOut),
            "training" to training.toJson(),
        ),
    )

    internal companion object {
        private val OUTCOMES = Outcome.entries.associateBy { it.name.lowercase() }

        fun of(place: Place): UpdateReport = place.fields {
            UpdateReport(
                outcome = OUTCOMES.getValue(get("outcome").oneOf(*OUTCOMES.keys.toTypedArray())),
                time = get("time").whole(0, Long.MAX_VALUE),
                metric = get("metric").optional { string() },
                before = get("before").optional { number() },
                after = get("after").optional { number() },
                heldOut = get("held_out").count(),
                training = Report.of(get("training")),
            )
        }
    }
}
