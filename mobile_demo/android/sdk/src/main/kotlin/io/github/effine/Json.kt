package io.github.effine

/** A JSON value as the strict reader gives it: no duplicate keys, no NaN, no lone surrogates. */
internal sealed interface Json {
    data object Null : Json

    data class Bool(val value: Boolean) : Json

    data class Whole(val value: Long) : Json

    /** A whole number above the range of [Whole]. */
    data class Large(val value: ULong) : Json

    data class Real(val value: Double) : Json {
        /** How the number is written in the document that it was read from. */
        var written: String? = null
            private set

        constructor(written: String) : this(written.toDouble()) {
            this.written = written
        }
    }

    data class Text(val value: String) : Json

    data class Items(val values: List<Json>) : Json

    data class Table(val entries: Map<String, Json>) : Json

    companion object {
        /** Reads a document of at most [depth] levels; throws [FormatError]. */
        fun parse(text: String, depth: Int = 64): Json = JsonParser(text, depth).document()

        fun of(value: String?): Json = if (value == null) Null else Text(value)

        fun of(value: Double?): Json = if (value == null) Null else Real(value)

        fun of(value: Int): Json = Whole(value.toLong())

        fun of(value: ULong): Json =
            if (value > Long.MAX_VALUE.toULong()) Large(value) else Whole(value.toLong())

        fun texts(values: List<String>): Json = Items(values.map(::Text))
    }
}

/** Whether two values are equal, numbers by value: 1 and 1.0 are the same setting. */
internal fun Json.means(other: Json): Boolean {
    val (a, b) = number() to other.number()
    return if (a != null && b != null) a == b else this == other
}

private fun Json.number(): Double? = when (this) {
    is Json.Whole -> value.toDouble()
    is Json.Large -> value.toDouble()
    is Json.Real -> value
    else -> null
}

/** The one text of a value: sorted keys, no spaces, characters unescaped, shortest numbers. */
internal fun Json.canonical(): String = StringBuilder().also { write(this, it) }.toString()

private fun write(json: Json, out: StringBuilder) {
    when (json) {
        Json.Null -> out.append("null")
        is Json.Bool -> out.append(json.value)
        is Json.Whole -> out.append(json.value)
        is Json.Large -> out.append(json.value)
        is Json.Real -> out.append(shortest(json.value))
        is Json.Text -> quote(json.value, out)
        is Json.Items -> {
            out.append('[')
            json.values.forEachIndexed { index, item ->
                if (index > 0) out.append(',')
                write(item, out)
            }
            out.append(']')
        }
        is Json.Table -> {
            out.append('{')
            json.entries.entries.sortedWith(compareBy(CODE_POINTS) { it.key })
                .forEachIndexed { index, (key, value) ->
                    if (index > 0) out.append(',')
                    quote(key, out)
                    out.append(':')
                    write(value, out)
                }
            out.append('}')
        }
    }
}

private const val ESCAPED = "\"\\\b\u000c\n\r\t"
private const val LETTERS = "\"\\bfnrt"

private fun quote(text: String, out: StringBuilder) {
    out.append('"')
    for (char in text) {
        val special = ESCAPED.indexOf(char)
        when {
            special >= 0 -> out.append('\\').append(LETTERS[special])
            char < ' ' -> out.append("\\u00").append(HEX[char.code shr 4]).append(HEX[char.code and 15])
            else -> out.append(char)
        }
    }
    out.append('"')
}

/** Strings by code point, where Java compares UTF-16 units. */
internal val CODE_POINTS = Comparator<String> { a, b ->
    var at = 0
    while (at < a.length && at < b.length && a[at] == b[at]) at++
    when {
        at == a.length || at == b.length -> a.length - b.length
        a[at].isSurrogate() != b[at].isSurrogate() -> if (a[at].isSurrogate()) 1 else -1
        else -> a[at] - b[at]
    }
}

private class JsonParser(private val text: String, private val depth: Int) {
    private var at = 0

    fun document(): Json {
        val value = value(0)
        skipSpaces()
        if (at != text.length) fail("text after the end")
        return value
    }

    private fun fail(problem: String): Nothing =
        throw FormatError("not valid JSON at character $at: $problem")

    private fun peek(): Char = if (at < text.length) text[at] else '\u0000'

    private fun take(wanted: Char): Boolean {
        val there = at < text.length && text[at] == wanted
        if (there) at++
        return there
    }

    private fun expect(wanted: Char) {
        if (!take(wanted)) fail("expected $wanted")
    }

    private fun skipSpaces() {
        while (at < text.length && text[at] in " \n\r\t") at++
    }

    private fun value(level: Int): Json {
        if (level > depth) fail("nested too deeply")
        skipSpaces()
        return when (peek()) {
            '{' -> table(level)
            '[' -> items(level)
            '"' -> Json.Text(string())
            't' -> word("true", Json.Bool(true))
            'f' -> word("false", Json.Bool(false))
            'n' -> word("null", Json.Null)
            else -> number()
        }
    }

    private fun word(word: String, meaning: Json): Json {
        if (!text.startsWith(word, at)) fail("unknown word")
        at += word.length
        return meaning
    }

    private fun number(): Json {
        val start = at
        take('-')
        if (!take('0')) digits()
        val wholeEnd = at
        if (take('.')) digits()
        if (take('e') || take('E')) {
            if (!take('+')) take('-')
            digits()
        }
        val written = text.substring(start, at)
        if (at == wholeEnd) {
            written.toLongOrNull()?.let { return Json.Whole(it) }
            written.toULongOrNull()?.let { return Json.Large(it) }
        } else {
            Json.Real(written).let { if (it.value.isFinite()) return it }
        }
        fail("number out of range")
    }

    private fun digits() {
        val start = at
        while (peek() in '0'..'9') at++
        if (at == start) fail("expected a value")
    }

    private fun items(level: Int): Json {
        val values = ArrayList<Json>()
        expect('[')
        skipSpaces()
        if (take(']')) return Json.Items(values)
        do {
            values += value(level + 1)
            skipSpaces()
        } while (take(','))
        expect(']')
        return Json.Items(values)
    }

    private fun table(level: Int): Json {
        val entries = LinkedHashMap<String, Json>()
        expect('{')
        skipSpaces()
        if (take('}')) return Json.Table(entries)
        do {
            skipSpaces()
            val key = string()
            skipSpaces()
            expect(':')
            if (entries.put(key, value(level + 1)) != null) fail("\"$key\" occurs twice")
            skipSpaces()
        } while (take(','))
        expect('}')
        return Json.Table(entries)
    }

    private fun string(): String {
        expect('"')
        val result = StringBuilder()
        while (!take('"')) {
            if (at == text.length) fail("unfinished string")
            val char = text[at++]
            when {
                char < ' ' -> fail("control character in a string")
                char == '\\' -> result.append(escape())
                else -> result.append(char)
            }
        }
        checkSurrogates(result)
        return result.toString()
    }

    private fun escape(): Char {
        val letter = if (at < text.length) "\"\\/bfnrtu".indexOf(text[at++]) else -1
        if (letter < 0) fail("unknown escape")
        if (letter < 8) return "\"\\/\b\u000c\n\r\t"[letter]
        val digits = text.substring(at, minOf(at + 4, text.length))
        if (digits.length < 4 || !digits.all { it in '0'..'9' || it in 'a'..'f' || it in 'A'..'F' }) {
            fail("bad \\u escape")
        }
        at += 4
        return digits.toInt(16).toChar()
    }

    private fun checkSurrogates(string: CharSequence) {
        var index = 0
        while (index < string.length) {
            val char = string[index++]
            if (!char.isSurrogate()) continue
            val paired = char.isHighSurrogate() && index < string.length && string[index].isLowSurrogate()
            if (!paired) fail("lone surrogate")
            index++
        }
    }
}
