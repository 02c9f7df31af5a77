package io.github.effine

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ContentsTest {
    private val artifact = "ab".repeat(32)

    private fun examples(count: Int, label: String = "lamp") = List(count) { Example("$label $it", label) }

    private fun Contents.begun() = begin(null, artifact)

    private fun Contents.ended(outcome: Outcome, keep: Int = 3) =
        end(run!!, UpdateReport(outcome, 1, "accuracy", 0.5, 0.25, 2, Report()), keep)

    private fun learned(vararg outcomes: Outcome) =
        outcomes.fold(Contents().add(examples(6))) { now, outcome -> now.begun().ended(outcome) }

    @Test
    fun `of each label the third and then one in five are held out`() {
        val contents = (1..20).fold(Contents()) { now, i -> now.add(listOf(Example("a $i", "a"), Example("b $i", "b"))) }
        for (label in listOf("a", "b")) {
            val held = contents.examples.filter { it.example.label == label }.map { it.heldOut }
            assertEquals(listOf(3, 6, 11, 16), held.indices.filter { held[it] }.map { it + 1 })
        }
        assertEquals((1L..40L).toList(), contents.examples.map { it.id })
        assertEquals(contents.examples.map { it.heldOut }, Contents().add(contents.examples.map { it.example }).examples.map { it.heldOut })
        assertEquals(200, Contents().add(examples(2000)).examples.count { it.heldOut })
    }

    @Test
    fun `what is there already isn't added again, and ids aren't given again`() {
        val contents = Contents().add(examples(3) + examples(3))
        assertSame(contents, contents.add(examples(2)))
        assertEquals(listOf(1L, 2L, 4L), contents.forget(setOf(3, 99)).add(examples(4)).examples.map { it.id }.take(3))
    }

    @Test
    fun `too few examples begin no run`() {
        assertFalse(Contents().add(examples(2)).due)
        assertThrows(DataError::class.java) { Contents().add(examples(2)).begun() }
        assertTrue(Contents().add(examples(3)).due)
    }

    @Test
    fun `a run keeps its data while examples are added`() {
        val begun = Contents().add(examples(4)).begun()
        val more = begun.add(examples(9)).copy(labels = listOf("new"))
        assertEquals(begun.run, more.begun().run)
        assertEquals(5L to 0, more.run!!.until to more.run.labels)
        val ended = more.ended(Outcome.REJECTED)
        assertTrue(ended.due)
        assertEquals(0L, ended.inUse)
        assertFalse(ended.begun().ended(Outcome.REJECTED).due)
    }

    @Test
    fun `good states are kept up to a bound and gone back to`() {
        val contents = learned(Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.REJECTED, Outcome.ACCEPTED)
        assertEquals(listOf(1L, 2L, 4L), contents.states.map { it.id })
        val back = contents.begun().rollback()
        assertEquals(2L, back.inUse)
        assertEquals(null, back.run)
        assertEquals(OpenRun(6, 2, 7, 0, null, artifact), back.begun().run)
        val first = back.rollback()
        assertEquals(1L, first.inUse)
        assertSame(first, first.rollback())
        assertEquals(0L, learned(Outcome.ACCEPTED).rollback().inUse)
    }

    @Test
    fun `forgetting leaves the state in use alone until a new one has unlearned`() {
        val contents = learned(Outcome.ACCEPTED, Outcome.ACCEPTED).add(examples(8))
        val forgot = contents.begun().forget(setOf(1))
        assertEquals(listOf(2L), forgot.states.map { it.id })
        assertEquals(null, forgot.run)
        assertTrue(forgot.mustUnlearn && forgot.due)
        assertEquals(0L, forgot.begun().run!!.from)
        assertEquals(listOf(0L, 4L), forgot.begun().ended(Outcome.ACCEPTED).states.map { it.id })
        assertEquals(listOf(0L), forgot.begun().ended(Outcome.REJECTED).states.map { it.id })
        for (outcome in listOf(Outcome.ACCEPTED, Outcome.REJECTED)) assertFalse(forgot.begun().ended(outcome).mustUnlearn)
        assertEquals(listOf(0L), contents.forget((1L..6L).toSet()).states.map { it.id })
    }

    @Test
    fun `forgetting what nothing has learned changes nothing else`() {
        val contents = learned(Outcome.ACCEPTED).begun().add(examples(8))
        val forgot = contents.forget(setOf(8))
        assertEquals(contents.copy(examples = contents.examples.dropLast(1)), forgot)
        assertSame(forgot, forgot.forget(setOf(8)))
    }

    @Test
    fun `a reset keeps examples and their labels`() {
        val contents = learned(Outcome.ACCEPTED).copy(labels = listOf("unused", "lamp")).reset()
        assertEquals(listOf(0L), contents.states.map { it.id })
        assertEquals(listOf("lamp"), contents.labels)
        assertTrue(contents.due && contents.examples.size == 6 && contents.reports.size == 1)
    }

    @Test
    fun `contents survive their JSON`() {
        val odd = listOf(
            Example("pair \u2028 \"\n", label = "\ud83d\ude00", textB = ""),
            Example("score", score = 0.1 + 0.2),
            Example("several", labels = listOf("b", "a")),
            Example("none", labels = emptyList()),
        )
        val contents = learned(Outcome.ACCEPTED, Outcome.REJECTED).add(odd).copy(labels = listOf("\u00fc")).begin("balanced", artifact)
        val text = contents.toJson().canonical()
        val again = contents(text)
        assertEquals(text, again.toJson().canonical())
        assertEquals(contents.examples.map { it.example }, again.examples.map { it.example })
        assertEquals(contents.run, again.run)
        for (bad in listOf(text.replace("\"schema\":1", "\"schema\":2"), text.replace("\"learned\"", "\"x\""), "[]", text.dropLast(1))) {
            assertThrows(FormatError::class.java) { contents(bad) }
        }
    }
}
