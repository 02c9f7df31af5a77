package io.github.effine

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class RunTest {
    private val recipe = Json.parse(
        """{"piece_rate": 0.001, "head_rate": 1, "epochs": 3, "schedule": "linear", "warmup": 0.1,
            "accumulate": 2, "seed": 0, "patience": 0, "keep_best": true}""",
    ) as Json.Table

    @Test
    fun `settings replace those below and keep how these are written`() {
        val settings = Settings(epochs = 5, seed = ULong.MAX_VALUE).over(recipe, "balanced")
        assertEquals(5, settings.epochs)
        assertEquals(
            """{"accumulate":2,"class_weights":"balanced","epochs":5,"head_rate":1,"keep_best":true,"patience":0,"piece_rate":0.001,""" +
                """"schedule":"linear","seed":18446744073709551615,"warmup":0.1}""",
            settings.json.canonical(),
        )
    }

    @Test
    fun `settings that can't be are refused`() {
        for (bad in listOf(Settings(epochs = 0), Settings(accumulate = 0), Settings(schedule = "step"), Settings(warmup = 2.0), Settings(headRate = -1.0))) {
            assertThrows(EffineError::class.java) { bad.over(recipe, null) }
        }
    }

    @Test
    fun `a report survives its JSON and tells what went wrong`() {
        val report = Report()
        report.samples = 7
        report.lossSum = 3.0
        report.weightSum = 2.0
        report.endEpoch(1, mapOf("accuracy" to 0.5))
        report.discarded += Discarded(3, listOf(1, 2))
        report.lossSum = 4.0
        report.weightSum = 2.0
        report.endEpoch(2, emptyMap())
        report.diagnose(changed = true, collapse = "all the same", FrozenHead(0.875, "accuracy", "dev"))
        assertEquals(
            listOf(
                "the loss rose (1.5 to 2): lower learning rates",
                "all the same",
                "for comparison, a linear head on the frozen backbone reaches accuracy 0.875 (dev)",
            ),
            report.warnings,
        )
        val json = report.toJson()
        assertEquals(json.canonical(), Report.of(Place(json, "report")).toJson().canonical())
        report.diagnose(changed = false, collapse = null, null)
        assertTrue(report.warnings.single().startsWith("the parameters didn't change"))
    }

    @Test
    fun `trainings queue up on one thread`() {
        val threads = (1..3).map { TrainingThread.submit { Thread.currentThread().name } }.map { it.get() }
        assertEquals(List(3) { "effine-training" }, threads)
    }
}
