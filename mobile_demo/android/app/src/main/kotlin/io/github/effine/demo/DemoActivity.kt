package io.github.effine.demo

import android.app.Activity
import android.app.AlertDialog
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.view.ViewGroup
import android.view.inputmethod.InputMethodManager
import android.widget.Button
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.TextView
import io.github.effine.Outcome
import io.github.effine.UpdateReport
import kotlin.math.roundToInt

private const val ANSWERS = 3
private const val TYPING_PAUSE_MS = 250L

/** The one screen: a sentence and what it means, the training, and what was taught. */
class DemoActivity : Activity() {
    private val assistant get() = (application as DemoApplication).assistant
    private val typing = Handler(Looper.getMainLooper())
    private val sentence by lazy { findViewById<EditText>(R.id.sentence) }
    private var shown = Screen()

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_demo)
        sentence.addTextChangedListener(Typed())
        sentence.setOnEditorActionListener { _, _, _ -> hideKeyboard().let { true } }
        onClick(R.id.train) { if (assistant.screen.training.running) assistant.pause() else assistant.train() }
        onClick(R.id.use_samples) { assistant.useSamples() }
        onClick(R.id.fault_close) { assistant.closeFault() }
        onClick(R.id.start_over) { askToStartOver() }
    }

    override fun onStart() {
        super.onStart()
        if (sentence.text.isEmpty()) sentence.setText(assistant.screen.sentence)
        assistant.listener = ::render
    }

    override fun onStop() {
        assistant.listener = null
        super.onStop()
    }

    private fun render(screen: Screen) {
        showFault(screen.fault)
        showAnswer(screen)
        showTraining(screen)
        if (screen.labels != shown.labels) showIntents(screen.labels)
        showExamples(screen)
        shown = screen
    }

    private fun showFault(fault: String?) {
        visible(R.id.fault, fault != null)
        text(R.id.fault_text, fault.orEmpty())
    }

    private fun showAnswer(screen: Screen) {
        val best = screen.answer.intents.take(ANSWERS)
        visible(R.id.answer_empty, best.isEmpty())
        visible(R.id.teach, screen.ready && screen.sentence.isNotEmpty())
        rows(R.id.answer, R.layout.answer, best.size).zip(best).forEach { (row, answer) ->
            val (intent, share) = answer
            row.findViewById<TextView>(R.id.intent).text = readable(intent)
            row.findViewById<TextView>(R.id.score).text = getString(R.string.score, (100 * share).roundToInt())
            row.findViewById<ProgressBar>(R.id.share).progress = (1000 * share).roundToInt()
        }
    }

    private fun showTraining(screen: Screen) {
        val training = screen.training
        text(R.id.training_state, trainingState(screen))
        findViewById<Button>(R.id.train).apply {
            setText(if (training.running) R.string.pause else R.string.train)
            isEnabled = training.running || screen.due
        }
        findViewById<ProgressBar>(R.id.progress).apply {
            visibility = if (training.running) View.VISIBLE else View.INVISIBLE
            isIndeterminate = false
            progress = if (training.total == 0) 0 else max * training.update / training.total
        }
        findViewById<LossCurve>(R.id.curve).show(training)
        visible(R.id.outcome, screen.report != null)
        text(R.id.outcome, screen.report?.let { outcome(it) }.orEmpty())
    }

    private fun trainingState(screen: Screen): String {
        val training = screen.training
        val loss = training.losses.lastOrNull()
        return when {
            training.running && loss != null -> getString(R.string.step_loss, training.update, training.total, loss)
            training.running -> getString(R.string.starting)
            !screen.ready -> getString(R.string.opening)
            screen.due -> getString(R.string.waiting)
            screen.examples.isEmpty() -> getString(R.string.nothing_to_learn)
            else -> getString(R.string.up_to_date)
        }
    }

    private fun outcome(report: UpdateReport): String {
        fun percent(score: Double?) = (100 * (score ?: 0.0)).roundToInt()
        val (before, after) = percent(report.before) to percent(report.after)
        val heldOut = resources.getQuantityString(R.plurals.held_out, report.heldOut, report.heldOut)
        return when (report.outcome) {
            Outcome.PAUSED -> getString(R.string.paused)
            Outcome.ACCEPTED -> getString(R.string.accepted, after, heldOut, before)
            Outcome.REJECTED -> getString(R.string.rejected, after, heldOut, before)
            Outcome.WITHDRAWN -> getString(R.string.withdrawn)
        }
    }

    private fun showIntents(labels: List<String>) {
        val chips = findViewById<FlowLayout>(R.id.intents)
        chips.removeAllViews()
        for (label in labels) {
            chip(chips, readable(label)).setOnClickListener { taught { assistant.teach(it, label) } }
        }
        chip(chips, getString(R.string.new_intent)).apply {
            setBackgroundResource(R.drawable.chip_new)
            setOnClickListener { askForIntent() }
        }
    }

    private fun chip(parent: ViewGroup, label: String): Button {
        val chip = layoutInflater.inflate(R.layout.chip, parent, false) as Button
        chip.text = label
        parent.addView(chip)
        return chip
    }

    private fun showExamples(screen: Screen) {
        val (examples, known) = screen.examples to shown.examples
        visible(R.id.examples_empty, screen.ready && examples.isEmpty())
        text(
            R.id.examples_title,
            if (examples.isEmpty()) {
                getString(R.string.examples_title)
            } else {
                resources.getQuantityString(R.plurals.examples_title_count, examples.size, examples.size)
            },
        )
        if (examples.map { it.id } == known.map { it.id }) return
        val intents = examples.groupBy { it.example.label.orEmpty() }.toSortedMap()
        rows(R.id.examples, R.layout.intent, intents.size).zip(intents.entries).forEach { (row, entry) ->
            val (intent, taught) = entry
            row.findViewById<TextView>(R.id.intent).text = readable(intent)
            row.findViewById<TextView>(R.id.latest).text = taught.last().example.text
            row.findViewById<TextView>(R.id.count).text = taught.size.toString()
            row.setOnClickListener { TaughtDialog(this, readable(intent), taught) { assistant.forget(it) }.show() }
        }
    }

    private fun askForIntent() {
        val content = layoutInflater.inflate(R.layout.new_intent, null)
        val name = content.findViewById<EditText>(R.id.name)
        AlertDialog.Builder(this)
            .setTitle(R.string.new_intent_title)
            .setView(content)
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.add) { _, _ ->
                taught { assistant.teachNew(it, name.text.toString().trim()) }
            }
            .show()
    }

    private fun askToStartOver() {
        AlertDialog.Builder(this)
            .setMessage(R.string.start_over_question)
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.start_over) { _, _ -> assistant.startOver() }
            .show()
    }

    /** Teaches what stands in the field. */
    private fun taught(teach: (String) -> Unit) {
        hideKeyboard()
        teach(sentence.text.toString().trim())
    }

    private fun hideKeyboard() {
        getSystemService(InputMethodManager::class.java).hideSoftInputFromWindow(sentence.windowToken, 0)
        sentence.clearFocus()
    }

    /** As many rows as needed, those that are there used again. */
    private fun rows(parent: Int, layout: Int, count: Int): List<View> {
        val group = findViewById<ViewGroup>(parent)
        while (group.childCount > count) group.removeViewAt(group.childCount - 1)
        while (group.childCount < count) layoutInflater.inflate(layout, group)
        return (0 until count).map(group::getChildAt)
    }

    private fun onClick(id: Int, action: () -> Unit) = findViewById<View>(id).setOnClickListener { action() }

    private fun text(id: Int, text: String) = findViewById<TextView>(id).setText(text)

    private fun visible(id: Int, visible: Boolean) {
        findViewById<View>(id).visibility = if (visible) View.VISIBLE else View.GONE
    }

    private inner class Typed : TextWatcher {
        override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

        override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit

        override fun afterTextChanged(text: Editable) {
            typing.removeCallbacksAndMessages(null)
            typing.postDelayed({ assistant.ask(text.toString()) }, TYPING_PAUSE_MS)
        }
    }
}

/** An intent's name as people write it. */
internal fun readable(intent: String): String = intent.replace('_', ' ')
