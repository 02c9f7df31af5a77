package io.github.effine

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class JsonTest {
    @Test
    fun `a value has one text`() {
        val text = """ {"b" : [1, -2.50, 1E3, true, null], "a": {"\u00e9\n": "\/\u0001\ud83d\ude00"}, "": 18446744073709551615} """
        val canonical = "{\"\":18446744073709551615,\"a\":{\"\u00e9\\n\":\"/\\u0001\ud83d\ude00\"},\"b\":[1,-2.5,1000.0,true,null]}"
        assertEquals(canonical, Json.parse(text).canonical())
        assertEquals(Json.parse(canonical), Json.parse(text))
    }

    @Test
    fun `keys are sorted by code point`() {
        assertEquals("{\"a\":1,\"\uff61\":2,\"\ud83d\ude00\":3}", Json.parse("{\"\ud83d\ude00\":3,\"\uff61\":2,\"a\":1}").canonical())
    }

    @Test
    fun `anything else is refused`() {
        val documents = listOf(
            "", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":1}", "nul", "01", "+1", "1.", ".5", "1e", "NaN", "-Infinity",
            "1e999", "18446744073709551616", "\"\n\"", "\"\\x\"", "\"\\ud800\"", "\"\\ude00\\ud83d\"", "\"\\u12g4\"",
            "\"a", "[1] 2", "// 1", "'a'", "[".repeat(100) + "]".repeat(100),
        )
        for (document in documents) assertThrows(document, FormatError::class.java) { Json.parse(document) }
    }

    @Test
    fun `numbers mean the same with and without a point`() {
        assertTrue(Json.parse("1").means(Json.parse("1.0")))
        assertFalse(Json.parse("1").means(Json.parse("true")))
        assertFalse(Json.parse("1").means(Json.parse("2")))
    }

    @Test
    fun `floats are written as Python writes them`() {
        val texts = listOf(
            "0.0", "-0.0", "1.0", "0.1", "-2.5", "0.0001", "1e-05", "1.5e-05", "123456789.125", "1e+16", "1.25e+16",
            "9999999999999998.0", "5e-324", "1.7976931348623157e+308", "2.2250738585072014e-308", "1e+23",
            "9007199254740993.0", "5.684341886080802e-14", "2e-3",
        )
        for (text in texts) {
            val value = text.toDouble()
            val written = shortest(value)
            assertEquals(value, written.toDouble(), 0.0)
            if (text !in listOf("9007199254740993.0", "2e-3")) assertEquals(text, written)
        }
        assertEquals("0.002", shortest(0.002))
        assertThrows(FormatError::class.java) { shortest(Double.NaN) }
    }

    @Test
    fun `numbers in messages are written as Python writes them`() {
        assertEquals(
            listOf("0.6931", "1e+04", "12.35", "1.235e-05", "3", "0"),
            listOf(0.69314718, 9999.9, 12.346, 1.2345678e-5, 3.0, 0.0).map { rounded(it, 4) },
        )
        assertEquals(listOf("0.500", "0.062"), listOf(0.5, 0.0625).map { fixed(it, 3) })
    }

    @Test
    fun `a reader takes all fields and no other`() {
        val place = Place(Json.parse("""{"a": 1, "b": {"c": "x"}}"""), "")
        assertEquals(1, place.fields { get("a").count().also { get("b").fields { get("c").text() } } })
        val unknown = assertThrows(FormatError::class.java) { place.fields { get("a") } }
        assertEquals("document: unknown 'b'", unknown.message)
        val missing = assertThrows(FormatError::class.java) { place.fields { get("d") } }
        assertEquals("document: missing 'd'", missing.message)
        val wrong = assertThrows(FormatError::class.java) { place.table().getValue("b").table().getValue("c").count() }
        assertEquals("b.c: \"x\" is not a whole number", wrong.message)
    }
}
