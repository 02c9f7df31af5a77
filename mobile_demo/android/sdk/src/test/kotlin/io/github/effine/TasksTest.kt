package io.github.effine

import io.github.effine.tasks.QuestionAnswering
import io.github.effine.tasks.Span
import io.github.effine.tasks.TASKS
import io.github.effine.tasks.Task
import io.github.effine.tasks.TokenClassification
import io.github.effine.tasks.entities
import io.github.effine.tasks.entityScores
import io.github.effine.tasks.exactMatch
import io.github.effine.tasks.tokenF1
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TasksTest {
    @Test
    fun `entities go on over tags of one label`() {
        assertEquals(listOf(Span("x", 0, 2), Span("y", 3, 4)), entities(listOf("x", "x", "O", "y")))
        val tags = listOf("B-a", "I-a", "E-a", "I-a", "S-b", "I-b", "B-b", "I-a", "-", "B-")
        val expected = listOf(
            Span("a", 0, 3), Span("a", 3, 4), Span("b", 4, 5), Span("b", 5, 6), Span("b", 6, 7), Span("a", 7, 8),
            Span("-", 8, 9), Span("", 9, 10),
        )
        assertEquals(expected, entities(tags))
        val scores = entityScores(listOf(listOf("B-a", "O", "B-b")), listOf(listOf("B-a", "B-c", "O")))
        assertEquals(listOf("entity_f1", "entity_precision", "entity_recall"), scores.keys.toList())
        assertEquals(listOf(0.5, 0.5, 0.5), scores.values.toList())
        assertEquals(listOf(0.0, 0.0, 0.0), entityScores(listOf(listOf("O")), listOf(listOf("O"))).values.toList())
    }

    @Test
    fun `answers are compared without case, punctuation and articles`() {
        assertEquals(1.0, exactMatch("The Kitchen!", "kitchen"), 0.0)
        assertEquals(1.0, exactMatch("an apple a  day", "the apple, a day"), 0.0)
        assertEquals(1.0, exactMatch("ΟΔΟΣ", "οδος"), 0.0)
        assertEquals(0.0, exactMatch("308", "3 08"), 0.0)
        assertEquals(1.0, exactMatch("a_b-the", "abthe"), 0.0)
        assertEquals(1.0, tokenF1("the", "a"), 0.0)
        assertEquals(0.0, tokenF1("the", "x"), 0.0)
        assertEquals(2.0 * 2 / 6, tokenF1("b b c", "b c c"), 0.0)
    }

    @Test
    fun `examples that can't be used are refused`() {
        fun problem(task: Task, example: Example): String? =
            assertThrows(DataError::class.java) { task.read(example, true) { throw DataError(it) } }.message
        assertEquals("2 words and 1 tags; give one tag for each", problem(TokenClassification, Example("a b", tags = listOf("O"))))
        assertEquals("words is empty or has an empty entry; fill it in", problem(TokenClassification, Example(" \u001c")))
        assertEquals("has no tags; give one for each word", problem(TokenClassification, Example("a")))
        fun asked(vararg answers: Answer) = problem(QuestionAnswering, Example.question("q", "x \uD83D\uDE00 a b", answers.asList()))
        assertEquals("has no answers; give at least one", asked())
        for (bad in listOf(Answer("a b", 3), Answer("", 0), Answer("a", -1), Answer("b", 7))) {
            assertEquals("answer '${bad.text}' is not in the context at character ${bad.start}", asked(bad))
        }
        val good = Example.question("q", "x \uD83D\uDE00 a b", listOf(Answer("a b", 4)))
        assertEquals(good, QuestionAnswering.read(good, true) { throw DataError(it) })
    }

    @Test
    fun `what a task doesn't use is left out`() {
        val full = Example("a b", "l", "c", 1.0, listOf("l"), listOf("a", "b"), listOf("O", "O"), listOf(Answer("c", 0)))
        val fingerprints = TASKS.values.map { task -> fingerprint(listOf(task.read(full, true) { throw DataError(it) })) }
        assertEquals(TASKS.size, fingerprints.distinct().size)
        val bare = TASKS.values.map { it.read(full, false) { problem -> throw DataError(problem) } }
        assertEquals(2, bare.map { fingerprint(listOf(it)) }.distinct().size)
    }
}
