package io.github.effine

import io.github.effine.TinyArtifact.artifact
import io.github.effine.TinyArtifact.plan
import io.github.effine.TinyArtifact.sentences
import java.io.File
import java.util.concurrent.FutureTask
import kotlin.concurrent.thread
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** With a real artifact and real training. */
class PersonalizationTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val folder by lazy { temporary.newFolder() }

    private fun <T> personal(at: File = folder, how: UpdatePlan = plan, use: Personalization.() -> T): T =
        Personalization(at, artifact, how).use(use)

    /** Runs [action] in another thread and passes on what it throws. */
    private fun elsewhere(action: () -> Unit) = FutureTask { action() }.also { thread { it.run() } }.get()

    private fun Personalization.shares(text: String = "lamp on lamp on") = predict(text).probabilities

    private fun states(at: File = folder): Set<String> = at.list()!!.filter { it.startsWith("state-") }.toSet()

    @Test
    fun `an update learns and is taken into use`() {
        personal {
            assertFalse(due)
            val initial = shares()
            assertEquals((1L..24L).toList(), add(sentences))
            assertTrue(due)
            val report = update()
            assertEquals(report.summary, Outcome.ACCEPTED, report.outcome)
            assertEquals(6, report.heldOut)
            assertEquals(18, report.training.samples)
            assertTrue(report.summary, report.after!! > report.before!!)
            assertNotEquals(initial, shares())
            assertEquals("lamp", predict("lamp on lamp on").label)
        }
        personal {
            assertFalse(due)
            assertEquals(listOf("state-1.ckpt"), states().toList())
            assertEquals("lamp", predict("lamp on lamp on").label)
            assertEquals(Outcome.ACCEPTED, reports.single().outcome)
            assertEquals(sentences, examples.map { it.example })
        }
    }

    @Test
    fun `slices make the same state as one run, whatever is added meanwhile`() {
        personal { add(sentences) }
        val (whole, slices) = File(temporary.root, "whole") to folder
        folder.copyRecursively(whole)
        personal(whole) { assertEquals(Outcome.ACCEPTED, update().outcome) }
        var count = 0
        do {
            val outcome = personal {
                val report = if (count % 2 == 0) update(milliseconds = 0) else update { if (it.update % 7 == 0) cancel() }
                assertEquals(listOf(25L + count), add(listOf(Example("music at ${count++}", "music"))))
                report.outcome
            }
        } while (outcome == Outcome.PAUSED)
        assertEquals(Outcome.ACCEPTED, personal { reports.single().outcome })
        assertTrue("$count slices", count > 5)
        assertArrayEquals(File(whole, "state-1.ckpt").readBytes(), File(slices, "state-1.ckpt").readBytes())
        assertTrue(personal { due && examples.size == 24 + count })
    }

    @Test
    fun `a run that ended before it was decided about isn't trained again`() {
        personal { add(sentences) }
        val store = File(folder, "store.json")
        var undecided = ""
        personal { update { undecided = store.readText() } }
        val state = File(folder, "state-1.ckpt").readBytes()
        store.writeText(undecided)
        val left = listOf(".state-1.ckpt.5.tmp", "state-0.ckpt.tmp", "state-7.ckpt").map { File(folder, it) }
        left.forEach { it.writeText("left behind") }
        personal {
            assertEquals(listOf(false, true, false), left.map { it.exists() })
            assertEquals(Outcome.ACCEPTED, update { throw AssertionError("trains") }.outcome)
        }
        assertArrayEquals(state, File(folder, "state-1.ckpt").readBytes())
    }

    @Test
    fun `a state that scores worse isn't taken into use`() {
        personal { add(sentences).also { update() } }
        val harmful = plan.copy(settings = Settings(epochs = 1, headRate = 1e4, schedule = "constant"))
        val (before, after) = personal(how = harmful) {
            val before = shares()
            val report = update()
            assertEquals(report.summary, Outcome.REJECTED, report.outcome)
            assertTrue(report.before!! - report.after!! > plan.margin)
            before to shares()
        }
        assertEquals(before, after)
        assertEquals(setOf("state-1.ckpt"), states())
        personal(how = harmful.copy(margin = 1.0)) { assertEquals(Outcome.ACCEPTED, update().outcome) }
        assertEquals(setOf("state-1.ckpt", "state-3.ckpt"), states())
    }

    @Test
    fun `going back finds the states before`() {
        personal {
            val initial = shares()
            assertFalse(canRollBack || rollback())
            add(sentences)
            update()
            val first = shares()
            update()
            assertNotEquals(first, shares())
            assertTrue(rollback() && canRollBack)
            assertEquals(first, shares())
            assertEquals(setOf("state-1.ckpt"), states())
            assertTrue(rollback() && !canRollBack)
            assertEquals(initial, shares())
            assertTrue(states().isEmpty())
        }
    }

    @Test
    fun `what is forgotten is unlearned`() {
        val other = temporary.newFolder()
        val state = personal(other) {
            add(sentences.dropLast(1))
            update()
            File(other, "state-1.ckpt").readBytes()
        }
        personal {
            add(sentences)
            update()
            update()
            File(folder, "features-0.cache").writeText("features")
            val before = shares()
            forget(listOf(24))
            assertTrue(mustUnlearn && due && !canRollBack)
            assertEquals(before, shares())
            assertEquals(setOf("state-2.ckpt"), states())
            assertFalse(File(folder, "features-0.cache").exists())
            assertEquals(Outcome.ACCEPTED, update().outcome)
            assertFalse(mustUnlearn || due)
            assertArrayEquals(state, File(folder, "state-3.ckpt").readBytes())
            forget(examples.map { it.id })
            assertFalse(mustUnlearn || due || canRollBack)
            assertTrue(states().isEmpty())
        }
    }

    @Test
    fun `a label is added on the device`() {
        personal {
            addLabel("door")
            assertThrows(DataError::class.java) { addLabel("door") }
            for (bad in listOf(" ", "\ud800", "x".repeat(1001))) assertThrows(DataError::class.java) { addLabel(bad) }
            add(sentences + List(6) { Example("door ${sentences[it].text.substringAfter(' ')}".replace("lamp", "door"), "door") })
            assertFalse("door" in predict("door").probabilities)
            assertEquals(Outcome.ACCEPTED, update().outcome)
            assertEquals(artifact.manifest.task.labels + "door", predict("door").probabilities.keys.toList())
            addLabel("window")
            assertThrows(DataError::class.java) { addLabel("roof") }
            assertThrows(DataError::class.java) { add(listOf(Example("open", "roof"))) }
        }
        personal {
            assertEquals(artifact.manifest.task.labels + listOf("door", "window"), labels)
            assertEquals(Outcome.ACCEPTED, update().outcome)
            reset()
            assertEquals(artifact.manifest.task.labels + "door", labels)
            assertEquals(artifact.manifest.task.labels, predict("door").probabilities.keys.toList())
            assertTrue(states().isEmpty() && due && examples.size == 30)
        }
    }

    @Test
    fun `while it trains others predict and wait`() {
        personal {
            add(sentences)
            val before = shares()
            update { progress ->
                if (progress.update != 4) return@update
                assertThrows(BusyError::class.java) { update() }
                elsewhere {
                    assertEquals(before, shares())
                    personal { assertThrows(BusyError::class.java) { update() } }
                    addLabel("door")
                }
                assertEquals(before, shares())
            }
            assertNotEquals(before, shares())
            assertEquals(artifact.manifest.task.labels.size, shares().size)
        }
    }

    @Test
    fun `a run whose data are forgotten is dropped`() {
        personal {
            val ids = add(sentences)
            val report = update { if (it.update == 5) forget(ids.take(1)) }
            assertEquals(Outcome.WITHDRAWN, report.outcome)
            assertTrue(states().isEmpty() && reports.isEmpty() && due)
            assertEquals(23, examples.size)
        }
    }

    @Test
    fun `too few examples leave nothing behind`() {
        personal {
            add(sentences.take(3))
            assertThrows(DataError::class.java) { update() }
            assertTrue(states().isEmpty() && !due)
            assertThrows(DataError::class.java) { add(listOf(sentences.last(), Example("pair", "lamp", textB = "x"))) }
            assertEquals(3, examples.size)
        }
        assertThrows(EffineError::class.java) { UpdatePlan(margin = -0.1) }
    }
}
