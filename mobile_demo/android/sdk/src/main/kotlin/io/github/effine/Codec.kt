package io.github.effine

internal const val MAX_ENTRIES = 100_000
internal const val MAX_ELEMENTS = 1_000_000_000
internal const val MAX_RANK = 8
private const val MAX_TEXT = 1000
private val NAME = Regex("[!-~]{1,200}")
private val HASH = Regex("[0-9a-f]{64}")
private val FILE_NAME = Regex("(?!.*\\.\\.)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

/** A place in a JSON document, read strictly: a file may hold what its reader asks for, nothing else. */
internal class Place(val json: Json, private val where: String) {
    fun fail(wanted: String): Nothing {
        val text = json.canonical()
        val shown = if (text.length > 60) text.take(60) + "..." else text
        throw FormatError("${where.ifEmpty { "document" }}: $shown is not $wanted")
    }

    /** Reads an object whose keys are those that [read] takes, no more and no fewer. */
    fun <T> fields(read: Fields.() -> T): T {
        val fields = Fields((json as? Json.Table ?: fail("a JSON object")).entries, where)
        return fields.read().also { fields.finish() }
    }

    fun table(): Map<String, Place> {
        val entries = (json as? Json.Table ?: fail("a JSON object")).entries
        checkCount(entries.size)
        return entries.mapValues { (key, value) -> Place(value, below(key)) }
    }

    fun items(): List<Place> {
        val values = (json as? Json.Items ?: fail("a JSON list")).values
        checkCount(values.size)
        return values.mapIndexed { index, value -> Place(value, "$where[$index]") }
    }

    fun string(): String = (json as? Json.Text ?: fail("a string")).value

    fun text(): String = string().also {
        if (it.codePointCount(0, it.length) > MAX_TEXT) fail("shorter than $MAX_TEXT characters")
    }

    fun name(): String = matching(NAME, "a name of printable ASCII characters")

    fun hash(): String = matching(HASH, "a lower-case SHA-256")

    fun fileName(): String = matching(FILE_NAME, "a plain file name")

    fun oneOf(vararg choices: String): String =
        string().also { if (it !in choices) fail("one of ${choices.joinToString(", ")}") }

    fun boolean(): Boolean = (json as? Json.Bool ?: fail("true or false")).value

    fun whole(low: Long, high: Long): Long {
        val value = (json as? Json.Whole ?: fail("a whole number")).value
        return value.also { if (it !in low..high) fail("between $low and $high") }
    }

    fun count(): Int = whole(0, MAX_ELEMENTS.toLong()).toInt()

    fun positive(): Int = whole(1, MAX_ELEMENTS.toLong()).toInt()

    fun natural(): ULong = (json as? Json.Large)?.value ?: whole(0, Long.MAX_VALUE).toULong()

    fun number(): Double = when (json) {
        is Json.Real -> json.value
        is Json.Whole -> json.value.toDouble()
        else -> fail("a number")
    }

    fun amount(): Double = number().also { if (it < 0) fail("0 or more") }

    fun share(): Double = number().also { if (it !in 0.0..1.0) fail("between 0 and 1") }

    fun shape(): List<Int> {
        val sizes = items().map { it.positive() }
        if (sizes.size > MAX_RANK) fail("of rank $MAX_RANK or less")
        if (elements(sizes) > MAX_ELEMENTS) fail("of at most $MAX_ELEMENTS elements")
        return sizes
    }

    fun <T> optional(read: Place.() -> T): T? = if (json == Json.Null) null else read()

    fun below(key: String): String = if (where.isEmpty()) key else "$where.$key"

    private fun checkCount(size: Int) {
        if (size > MAX_ENTRIES) throw FormatError("$where: $size entries, more than $MAX_ENTRIES")
    }

    private fun matching(pattern: Regex, wanted: String): String =
        string().also { if (!pattern.matches(it)) fail(wanted) }
}

/** The fields of an object while they are being read. */
internal class Fields(private val entries: Map<String, Json>, private val where: String) {
    private val left = entries.keys.toMutableSet()

    operator fun get(key: String): Place {
        val value = entries[key] ?: throw FormatError("${where.ifEmpty { "document" }}: missing '$key'")
        left -= key
        return Place(value, Place(value, where).below(key))
    }

    /** A field that may be left out. */
    fun find(key: String): Place? = if (key in entries) get(key) else null

    fun finish() {
        if (left.isEmpty()) return
        throw FormatError("${where.ifEmpty { "document" }}: unknown '${left.sorted().joinToString(", ")}'")
    }
}

/** The number of elements of a shape, or more than [MAX_ELEMENTS] if it is absurd. */
internal fun elements(shape: List<Int>): Long {
    var product = 1L
    for (size in shape) {
        product *= size
        if (product > MAX_ELEMENTS) return product
    }
    return product
}
