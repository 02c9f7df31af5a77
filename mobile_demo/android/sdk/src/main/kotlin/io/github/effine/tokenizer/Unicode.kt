package io.github.effine.tokenizer

import java.util.Arrays

/** Classes and mappings of code points, as Hugging Face's tokenizers have them; see unicode.txt. */
internal object Unicode {
    private val lines = checkNotNull(Unicode::class.java.getResourceAsStream("unicode.txt")) { "unicode.txt is missing" }
        .use { it.reader(Charsets.US_ASCII).readLines() }
        .associate { it.substringBefore(' ') to it.split(' ').drop(1) }
    private val whitespace = CodeSet(lines.getValue("whitespace"))
    private val removed = CodeSet(lines.getValue("removed"))
    private val punctuation = CodeSet(lines.getValue("punctuation"))
    private val nonspacing = CodeSet(lines.getValue("nonspacing"))
    private val letters = CodeSet(lines.getValue("letter"))
    private val numbers = CodeSet(lines.getValue("number"))
    private val spaces = CodeSet(lines.getValue("space"))
    private val classes = codeMap(lines.getValue("class"))
    private val decompositions = codeMap(lines.getValue("decomposition"))
    private val lower = codeMap(lines.getValue("lower"))

    fun isWhitespace(code: Int): Boolean = code in whitespace

    /** Whether BERT drops a character: controls, formats, private use. */
    fun isRemoved(code: Int): Boolean = code in removed

    /** Whether BERT makes a word of a character: punctuation, and ASCII symbols. */
    fun isPunctuation(code: Int): Boolean = code in punctuation

    fun isNonspacingMark(code: Int): Boolean = code in nonspacing

    /** Whether a regular expression's \p{L} matches. */
    fun isLetter(code: Int): Boolean = code in letters

    /** Whether a regular expression's \p{N} matches. */
    fun isNumber(code: Int): Boolean = code in numbers

    /** Whether a regular expression's \s matches. */
    fun isSpace(code: Int): Boolean = code in spaces

    /** The canonical combining class. */
    fun combiningClass(code: Int): Int = classes[code]?.get(0) ?: 0

    /** The full canonical decomposition, or null if the code point is its own. */
    fun decomposition(code: Int): IntArray? = if (code in HANGUL) hangul(code) else decompositions[code]

    /** The lower-case form, or null if the code point is its own. */
    fun lower(code: Int): IntArray? = lower[code]

    private val HANGUL = 0xAC00..0xD7A3

    private fun hangul(code: Int): IntArray {
        val index = code - HANGUL.first
        val (lead, vowel, tail) = Triple(index / 588, index % 588 / 28, index % 28)
        val pair = intArrayOf(0x1100 + lead, 0x1161 + vowel)
        return if (tail == 0) pair else pair + (0x11A7 + tail)
    }

    private fun codeMap(entries: List<String>): Map<Int, IntArray> = entries.associate { entry ->
        val (code, values) = entry.split(':')
        code.toInt(16) to values.split(',').map { it.toInt(16) }.toIntArray()
    }
}

/** Code points in sorted runs, written as `first-last`. */
private class CodeSet(runs: List<String>) {
    private val firsts = runs.map { it.substringBefore('-').toInt(16) }.toIntArray()
    private val lasts = runs.map { it.substringAfter('-').toInt(16) }.toIntArray()

    operator fun contains(code: Int): Boolean {
        val found = Arrays.binarySearch(firsts, code)
        return found >= 0 || (found < -1 && code <= lasts[-found - 2])
    }
}
