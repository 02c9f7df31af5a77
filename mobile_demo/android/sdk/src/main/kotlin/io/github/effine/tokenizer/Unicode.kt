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
    private val marks = CodeSet(lines.getValue("mark"))
    private val uncomposed = CodeSet(lines.getValue("uncomposed"))
    private val attached = CodeSet(lines.getValue("attached"))
    private val spacing = CodeSet(lines.getValue("spacing"))
    private val prepended = CodeSet(lines.getValue("prepended"))
    private val controls = CodeSet(lines.getValue("control"))
    private val leads = CodeSet(lines.getValue("lead"))
    private val vowels = CodeSet(lines.getValue("vowel"))
    private val tails = CodeSet(lines.getValue("tail"))
    private val pictographs = CodeSet(lines.getValue("pictograph"))
    private val consonants = CodeSet(lines.getValue("consonant"))
    private val linkers = CodeSet(lines.getValue("linker"))
    private val classes = codeMap(lines.getValue("class"))
    private val decompositions = codeMap(lines.getValue("decomposition"))
    private val compatible = codeMap(lines.getValue("compatibility"))
    private val lower = codeMap(lines.getValue("lower"))
    private val compositions by lazy(::compositions)

    fun isWhitespace(code: Int): Boolean = code in whitespace

    /** Whether BERT drops a character: controls, formats, private use. */
    fun isRemoved(code: Int): Boolean = code in removed

    /** Whether BERT makes a word of a character: punctuation, and ASCII symbols. */
    fun isPunctuation(code: Int): Boolean = code in punctuation

    fun isNonspacingMark(code: Int): Boolean = code in nonspacing

    fun isMark(code: Int): Boolean = code in marks

    /** Whether a regular expression's \p{L} matches. */
    fun isLetter(code: Int): Boolean = code in letters

    /** Whether a regular expression's \p{N} matches. */
    fun isNumber(code: Int): Boolean = code in numbers

    /** Whether a regular expression's \s matches. */
    fun isSpace(code: Int): Boolean = code in spaces

    /** Whether a code point goes with the one before it. */
    fun isAttached(code: Int): Boolean = code in attached

    /** Whether it does without being a spacing mark or a joiner. */
    fun isExtending(code: Int): Boolean = code in attached && code !in spacing

    /** Whether a code point goes with the one after it. */
    fun isPrepended(code: Int): Boolean = code in prepended

    fun isControl(code: Int): Boolean = code in controls

    /** Whether a code point is a consonant that Hangul syllables start with. */
    fun isLead(code: Int): Boolean = code in leads

    fun isVowel(code: Int): Boolean = code in vowels

    /** Whether a code point is a consonant that Hangul syllables end with. */
    fun isTail(code: Int): Boolean = code in tails

    fun isPictograph(code: Int): Boolean = code in pictographs

    /** Whether a code point is an Indic consonant that can be linked to the next. */
    fun isConsonant(code: Int): Boolean = code in consonants

    fun isLinker(code: Int): Boolean = code in linkers

    /** The canonical combining class. */
    fun combiningClass(code: Int): Int = classes[code]?.get(0) ?: 0

    /** The full canonical decomposition, or null if the code point is its own. */
    fun decomposition(code: Int): IntArray? = if (code in HANGUL) hangul(code) else decompositions[code]

    /** The full compatibility decomposition, or null if the code point is its own. */
    fun compatibility(code: Int): IntArray? = compatible[code] ?: decomposition(code)

    /** What two code points in a row make in canonical composition, or null if nothing. */
    fun composition(first: Int, second: Int): Int? = when {
        first in LEADS && second in VOWELS ->
            HANGUL.first + ((first - LEADS.first) * VOWELS.count() + second - VOWELS.first) * SYLLABLES
        first in HANGUL && second in TAILS && (first - HANGUL.first) % SYLLABLES == 0 -> first + second - TAILS.first + 1
        else -> compositions[pair(first, second)]
    }

    /** The lower-case form, or null if the code point is its own. */
    fun lower(code: Int): IntArray? = lower[code]

    private val HANGUL = 0xAC00..0xD7A3
    private val LEADS = 0x1100..0x1112
    private val VOWELS = 0x1161..0x1175
    private val TAILS = 0x11A8..0x11C2

    /** Syllables with the same first two letters. */
    private const val SYLLABLES = 28

    private fun hangul(code: Int): IntArray {
        val index = code - HANGUL.first
        val tail = index % SYLLABLES
        val (lead, vowel) = index / SYLLABLES / VOWELS.count() to index / SYLLABLES % VOWELS.count()
        val pair = intArrayOf(LEADS.first + lead, VOWELS.first + vowel)
        return if (tail == 0) pair else pair + (TAILS.first + tail - 1)
    }

    /** A full decomposition comes from composing its last code point with all before it. */
    private fun compositions(): Map<Long, Int> {
        val composed = decompositions.filterKeys { it !in uncomposed }.entries.associate { it.value.asList() to it.key }
        return composed.entries.associate { (parts, code) ->
            val first = if (parts.size == 2) parts[0] else composed.getValue(parts.dropLast(1))
            pair(first, parts.last()) to code
        }
    }

    private fun pair(first: Int, second: Int): Long = first.toLong() shl Int.SIZE_BITS or second.toLong()

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
