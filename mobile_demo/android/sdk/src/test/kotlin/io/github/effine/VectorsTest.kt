package io.github.effine

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import org.junit.Assert.assertEquals
import org.junit.Test

/** The order of samples, schedules, rounding and counts of tokens agree with the vectors that all languages share. */
class VectorsTest {
    private fun vectors(file: String, kind: String? = null): List<Map<String, Place>> {
        val folder = checkNotNull(System.getProperty("effine.vectors"))
        val place = Place(Json.parse(File(folder, file).readText()), file)
        return (if (kind == null) place else place.table().getValue(kind)).items().map { it.table() }
    }

    private fun Map<String, Place>.natural(key: String) = getValue(key).string().toULong()

    private fun Map<String, Place>.real(key: String) = hexadecimal(getValue(key).string())

    private fun Map<String, Place>.bytes(key: String): ByteBuffer =
        ByteBuffer.wrap(bytesOf(getValue(key).string())).order(ByteOrder.LITTLE_ENDIAN)

    private fun Map<String, Place>.floats(key: String): FloatBuffer = bytes(key).asFloatBuffer()

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
    fun rounding() {
        for (vector in vectors("packing.json")) {
            val width = vector.getValue("width").count()
            val rows = vector.floats("rows").limit() / width
            for (precision in PRECISIONS.drop(1)) {
                val payload = ByteBuffer.allocate(encodedSize(rows, width, precision)).order(ByteOrder.LITTLE_ENDIAN)
                encode(vector.floats("rows"), rows, width, precision, payload)
                assertEquals(vector.getValue(precision).string(), vector.bytes(precision), payload.rewound())
                val read = FloatBuffer.allocate(rows * width)
                decode(payload, rows, width, precision, read)
                val wanted = vector.getValue("${precision}_read")
                for (i in 0 until rows * width) {
                    val expected = if (wanted.json == Json.Null) Float.NaN else vector.floats("${precision}_read").get(i)
                    assertEquals(expected.toBits(), read.get(i).toBits())
                }
            }
        }
    }

    private fun ByteBuffer.rewound(): ByteBuffer = apply { (this as java.nio.Buffer).rewind() }

    @Test
    fun countsOfTokens() {
        for (vector in vectors("gates.json", "counts")) {
            val found = counts(vector.getValue("rung").string(), vector.getValue("layers").count(), vector.getValue("seq").count())
            assertEquals(vector.getValue("counts").items().map { it.count() }, found)
        }
        for (vector in vectors("gates.json", "needed")) {
            val gates = vector.getValue("gates").items().map { it.number().toFloat() }.toFloatArray()
            assertEquals(vector.getValue("count").count(), needed(gates))
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
