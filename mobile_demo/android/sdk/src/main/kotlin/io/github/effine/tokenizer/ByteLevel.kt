package io.github.effine.tokenizer

private const val SPACE = ' '.code
private val CONTRACTIONS = listOf("'s", "'t", "'re", "'ve", "'m", "'ll", "'d").map { it.codePoints().toArray() }

/** A character for each byte: itself where it can be seen, else one from U+0100 on. */
internal val BYTE_CHARACTERS: IntArray = run {
    val seen = ('!'.code..'~'.code) + (0xA1..0xAC) + (0xAE..0xFF)
    var next = 0x100
    IntArray(256) { if (it in seen) it else next++ }
}

/** Splits as GPT-2 does, then writes every byte of the UTF-8 text as a character (Radford et al., 2019). */
internal class ByteLevel(private val addPrefixSpace: Boolean, private val split: Boolean) : PreTokenizer {
    override fun apply(text: Aligned): List<Aligned> {
        val prefixed = if (addPrefixSpace && text.size > 0 && text.codes[0] != SPACE) text.behind(SPACE) else text
        val words = if (split) prefixed.words() else listOf(prefixed)
        return words.map { word -> word.replace(::byteCharacters) }
    }

    private fun Aligned.words(): List<Aligned> {
        val words = ArrayList<Aligned>()
        var start = 0
        while (start < size) {
            val end = wordEnd(start)
            words += slice(start, end)
            start = end
        }
        return words
    }

    /** Where the word that starts at [start] ends: 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\sLN]+|\s+(?!\S)|\s+. */
    private fun Aligned.wordEnd(start: Int): Int {
        for (word in CONTRACTIONS) {
            if (start + word.size <= size && word.indices.all { codes[start + it] == word[it] }) return start + word.size
        }
        val first = if (codes[start] == SPACE && start + 1 < size) start + 1 else start
        for (kind in KINDS) {
            if (kind(codes[first])) return run(first, kind)
        }
        val end = run(start, Unicode::isSpace)
        return if (end < size && end > start + 1) end - 1 else end
    }

    private fun Aligned.run(start: Int, holds: (Int) -> Boolean): Int {
        var end = start
        while (end < size && holds(codes[end])) end++
        return end
    }

    private companion object {
        val KINDS = listOf<(Int) -> Boolean>(
            Unicode::isLetter,
            Unicode::isNumber,
            { !Unicode.isSpace(it) && !Unicode.isLetter(it) && !Unicode.isNumber(it) },
        )
    }
}

private fun byteCharacters(code: Int): IntArray {
    val bytes = String(Character.toChars(code)).toByteArray()
    return IntArray(bytes.size) { BYTE_CHARACTERS[bytes[it].toInt() and 0xFF] }
}

/** Whether a character, as [ByteLevel] writes it or not, is a space. */
internal fun isSpaceCharacter(code: Int): Boolean = code == BYTE_CHARACTERS[SPACE] || Unicode.isWhitespace(code)

/** Takes the spaces at a token's ends out of its offsets, but not the one that was added. */
internal class Trim(private val addPrefixSpace: Boolean) {
    fun apply(entries: List<Entry>): List<Entry> = entries.mapIndexed { index, entry ->
        var (start, end) = entry.start to entry.end
        val added = addPrefixSpace && (index == 0 || start == 0)
        if (entry.spacesBefore > 0) start = minOf(start + entry.spacesBefore - (if (added) 1 else 0), end)
        if (entry.spacesAfter > 0 && end >= entry.spacesAfter) end = maxOf(end - entry.spacesAfter, start)
        entry.copy(start = start, end = end)
    }
}
