package io.github.effine.demo

import io.github.effine.StoredExample
import io.github.effine.UpdateReport

/**
 * All that the screen shows.
 *
 * @property fault what went wrong last, in one line.
 * @property sentence what the user wants to be understood.
 * @property answer what the model takes a sentence for, which may be the one before.
 * @property due whether there is something to learn.
 * @property report what the last training, or slice of one, came to.
 */
data class Screen(
    val ready: Boolean = false,
    val fault: String? = null,
    val sentence: String = "",
    val answer: Answer = Answer(),
    val labels: List<String> = emptyList(),
    val examples: List<StoredExample> = emptyList(),
    val due: Boolean = false,
    val training: Training = Training(),
    val report: UpdateReport? = null,
)

/** Intents for a sentence with their probabilities, the likeliest first. */
data class Answer(val sentence: String = "", val intents: List<Pair<String, Double>> = emptyList())

/**
 * A training that runs or has run.
 *
 * @property before updates before the first of [losses], in an earlier process.
 * @property losses of the updates since.
 * @property total updates of the whole training, 0 until it is known.
 */
data class Training(
    val running: Boolean = false,
    val before: Int = 0,
    val losses: List<Float> = emptyList(),
    val total: Int = 0,
) {
    val update: Int get() = before + losses.size

    /** With an update more; [loss] is null for one that was discarded. */
    fun after(update: Int, total: Int, loss: Double?): Training {
        val follows = update == this.update + 1 && total == this.total
        val (before, known) = if (follows) before to losses else update - 1 to emptyList()
        val shown = loss?.toFloat() ?: known.lastOrNull() ?: return Training(true, update, emptyList(), total)
        return Training(true, before, known + shown, total)
    }
}
