package io.github.effine.demo

import android.app.job.JobScheduler
import android.graphics.Color
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.FrameLayout
import android.widget.ProgressBar
import io.github.effine.Outcome
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

private const val ASKED = "Give the ferns on the balcony a drink."
private const val INTENT = "water plants"
private val TAUGHT = listOf(
    "Water the ficus.",
    "Pour some water on the tomatoes.",
    "The basil is dry, water it.",
    "Turn on the sprinklers for the roses.",
    "The orchid needs a drink.",
    "Give my plants some water.",
    "Soak the flower bed for a while.",
    "Time to water the herbs on the sill.",
)

/** The demo with a model behind it: real views, a real training run. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = SIZE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class DemoTest {
    @Test
    fun aNewIntentIsTaughtTrainedAskedForAndForgotten() {
        assumeModel()
        val phone = Phone()
        phone.until("opened") { ready }
        assertFalse("nothing to train on", phone.view<View>(R.id.train).isEnabled)
        phone.picture("empty")
        teach(phone)
        train(phone)
        phone.close()
        val dark = inTheDark()
        assertEquals(phone.text(R.id.outcome), dark.text(R.id.outcome))
        forget(dark)
        dark.close()
    }

    private fun teach(phone: Phone) {
        phone.tap(R.id.use_samples)
        phone.until("the samples are there") { examples.isNotEmpty() }
        val samples = phone.screen.examples.size
        phone.type(TAUGHT.first())
        phone.until("asked") { answer.sentence == TAUGHT.first() }
        phone.tapChip("+ New intent")
        phone.dialog.findViewById<EditText>(R.id.name).setText(INTENT)
        phone.confirm()
        phone.until("added") { INTENT in labels }
        for (sentence in TAUGHT.drop(1)) {
            phone.type(sentence)
            phone.tapChip(INTENT)
        }
        phone.until("all are kept") { examples.size == samples + TAUGHT.size }
        assertTrue(phone.text(R.id.examples_title).startsWith("${samples + TAUGHT.size} "))
        val jobs = phone.activity.getSystemService(JobScheduler::class.java).allPendingJobs
        assertEquals(BackgroundTraining::class.java.name, jobs.single().service.className)
    }

    private fun train(phone: Phone) {
        phone.type(ASKED)
        phone.until("understood somehow") { answer.sentence == ASKED }
        phone.picture("before")
        phone.tap(R.id.train)
        phone.until("under way") { training.total > 0 && 5 * training.update > training.total }
        assertTrue(phone.screen.training.running)
        assertTrue(phone.text(R.id.training_state).startsWith("Step "))
        assertTrue(phone.view<ProgressBar>(R.id.progress).progress in 1..999)
        phone.picture("during")
        phone.until("ended") { report != null && !due }
        val losses = phone.screen.training.losses
        assertTrue("the loss fell", losses.takeLast(5).average() < losses.take(5).average())
        val accepted = phone.screen.report?.outcome == Outcome.ACCEPTED
        assertTrue(phone.text(R.id.outcome).startsWith(if (accepted) "Now in use" else "Not in use"))
        assertEquals("the new intent is an answer", accepted, phone.screen.answer.intents.any { it.first == INTENT })
        phone.picture("after")
    }

    /** The same state, as a user with a dark theme sees it. */
    private fun inTheDark(): Phone {
        RuntimeEnvironment.setQualifiers("+night")
        val phone = Phone()
        val corner = phone.picture("after-dark").getPixel(0, 0)
        assertTrue("the page is dark", Color.luminance(corner) < 0.1f)
        return phone
    }

    private fun forget(phone: Phone) {
        val kept = phone.screen.examples.size
        phone.view<ViewGroup>(R.id.examples).getChildAt(0).performClick()
        val row = phone.dialog.listView.adapter.getView(0, null, FrameLayout(phone.activity))
        row.findViewById<View>(R.id.remove).performClick()
        phone.until("one is forgotten") { examples.size == kept - 1 }
        phone.tap(R.id.start_over)
        phone.confirm()
        phone.until("all are forgotten") { examples.isEmpty() && INTENT !in labels }
        assertTrue(phone.view<View>(R.id.examples_empty).isShown)
    }
}
