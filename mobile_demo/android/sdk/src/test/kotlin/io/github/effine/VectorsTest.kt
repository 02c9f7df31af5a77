package io.github.effine

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Test

/** The order of samples and the schedules agree with the vectors that all languages share. */
class VectorsTest {
    private fun vectors(file: String, kind: String): List<Map<String, Place>> {
        val folder = checkNotNull(System.getProperty("effine.vectors"))
        return Place(Json.parse(File(folder, file).readText()), file).table().getValue(kind).items().map { it.table() }
    }

    private fun Map<String, Place>.natural(key: String) = getValue(key).string().toULong()

    private fun Map<String, Place>.real(key: String) = hexadecimal(getValue(key).string())

    private fun hexadecimal(text: String) = java.lang.Double.parseDouble(text)

    private fun Map<String, Place>.outputs() = getValue("outputs").items().map { it.string().toULong() }

    @Test
    fun generators() {
        for (vector in vectors("order.json", "splitmix64")) {
            val generator = SplitMix64(vector.natural("state"))
            assertEquals(vector.outputs(), vector.outputs().map { generator.next() })
        }
        for (vector in vectors("order.json", "mix")) assertEquals(vector.natural("result"), mix(vector.natural("number")))
        for (vector in vectors("order.json", "epoch_generator")) {
            val generator = epochGenerator(vector.natural("seed"), vector.getValue("epoch").count())
            assertEquals(vector.outputs(), vector.outputs().map { generator.next() })
        }
    }

    @Test
    fun batchesOfAnEpoch() {
        for (vector in vectors("order.json", "batches")) {
            val lengths = vector.getValue("lengths").items().map { it.count() }.toIntArray()
            val expected = vector.getValue("batches").items().map { batch -> batch.items().map { it.count() } }
            val batch = vector.getValue("batch").count()
            assertEquals(expected, batches(lengths, batch, vector.natural("seed"), vector.getValue("epoch").count()))
        }
    }

    @Test
    fun cosine() {
        for (vector in vectors("schedule.json", "cos_pi")) {
            assertEquals(vector.real("result"), cosPi(vector.real("p")), 0.0)
        }
    }

    @Test
    fun rates() {
        for (vector in vectors("schedule.json", "rates")) {
            val rates = vector.getValue("rates").items().map { hexadecimal(it.string()) }
            val schedule = vector.getValue("schedule").string()
            assertEquals(vector.getValue("total").count(), rates.size)
            rates.forEachIndexed { update, expected ->
                val rate = rate(schedule, vector.real("peak"), update, rates.size, vector.real("warmup"))
                assertEquals(expected, rate.toDouble(), 0.0)
            }
        }
    }
}
