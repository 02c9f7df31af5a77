package io.github.effine.demo

import android.content.Context
import android.os.Handler
import android.os.Looper
import io.github.effine.EffineError
import io.github.effine.Example
import io.github.effine.Outcome
import io.github.effine.Personalization
import io.github.effine.Progress
import io.github.effine.TrainingThread
import io.github.effine.UpdateReport
import io.github.effine.android.TrainingJob
import java.util.concurrent.Executors

private const val JOB = 1

/**
 * What the app does, apart from drawing it. Called from the main thread; the work goes to a thread
 * for short tasks and to the thread for training, and comes back as a new [Screen].
 */
class Assistant(private val context: Context) {
    private val main = Handler(Looper.getMainLooper())
    private val tasks = Executors.newSingleThreadExecutor { Thread(it, "assistant").apply { isDaemon = true } }
    private val model: Personalization by lazy { openModel(context) }

    @Volatile
    var screen = Screen()
        private set

    /** Told of every new [screen], on the main thread, and of the present one at once. */
    var listener: ((Screen) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(screen)
        }

    init {
        task {}
    }

    /** Asks what a sentence means. */
    fun ask(sentence: String) {
        val asked = sentence.trim()
        if (asked == screen.sentence) return
        show { copy(sentence = asked, answer = if (asked.isEmpty()) Answer() else answer) }
        task {}
    }

    /** Keeps a sentence with its intent, for the next training. */
    fun teach(sentence: String, intent: String) = task { model.add(listOf(Example(sentence, intent))) }

    /** Adds an intent, and a sentence that has it. */
    fun teachNew(sentence: String, intent: String) = task {
        model.addLabel(intent)
        model.add(listOf(Example(sentence, intent)))
    }

    /** Keeps the sentences that the app ships. */
    fun useSamples() = task {
        val labels = model.labels
        model.add(sampleSentences(context).filter { it.label in labels })
    }

    fun forget(id: Long) = task { model.forget(listOf(id)) }

    /** Forgets everything that was taught and learned. */
    fun startOver() = task {
        model.cancel()
        model.forget(model.examples.map { it.id })
        model.reset()
        post { show { copy(training = Training(), report = null) } }
    }

    /** Trains, or goes on where [pause] or the system ended it. */
    fun train() {
        if (screen.training.running) return
        show { copy(fault = null, report = null, training = training.copy(running = true)) }
        TrainingThread.submit {
            try {
                onReport(model.update(callback = ::onProgress))
            } catch (error: Exception) {
                onError(error)
            }
        }
    }

    fun pause() = model.cancel()

    fun closeFault() = show { copy(fault = null) }

    /** Shows an update of a training; may come from any thread. */
    fun onProgress(progress: Progress) = post {
        if (progress.metrics == null) {
            show { copy(training = training.after(progress.update, progress.total, progress.loss)) }
        }
    }

    /** Shows how a training, or a slice of it, ended; may come from any thread. */
    fun onReport(report: UpdateReport) = post {
        // A training that ends early, as passes no longer help, has all of its updates.
        val all = if (report.outcome == Outcome.PAUSED) screen.training.total else screen.training.update
        show { copy(training = training.copy(running = false, total = all), report = report) }
        task {}
    }

    /** Shows what went wrong; may come from any thread. */
    fun onError(error: Exception) = post {
        show { copy(fault = error.message ?: error.toString(), training = training.copy(running = false)) }
    }

    /** Does something with the model, and shows what it then knows. */
    private fun task(action: () -> Unit) {
        tasks.execute {
            try {
                action()
                refresh()
            } catch (error: EffineError) {
                onError(error)
            }
        }
    }

    private fun refresh() {
        val answer = answer(screen.sentence)
        val (labels, examples, due) = Triple(model.labels, model.examples, model.due)
        if (due) TrainingJob.schedule(context, BackgroundTraining::class.java, JOB)
        post {
            val current = if (screen.sentence == answer.sentence) answer else screen.answer
            show { copy(ready = true, answer = current, labels = labels, examples = examples, due = due) }
        }
    }

    private fun answer(sentence: String): Answer {
        if (sentence.isEmpty()) return Answer()
        return Answer(sentence, model.predict(sentence).probabilities.toList().sortedByDescending { it.second })
    }

    private fun post(action: () -> Unit) {
        main.post(action)
    }

    private fun show(change: Screen.() -> Screen) {
        screen = screen.change()
        listener?.invoke(screen)
    }
}
