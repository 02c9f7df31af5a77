package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place

/** Regular expressions for a character that is repeated, which are the only ones that are known. */
private val REPEATED = Regex("""([^\\^$.|?*+()\[\]{}])(?:\{([1-9][0-9]{0,2}),\}|\+)""")

/** Puts [content] in the place of a text, or of a character that is repeated at least so often. */
internal class Replace private constructor(
    private val pattern: IntArray,
    private val repeats: Boolean,
    private val content: IntArray,
) : Normalizer {
    override fun apply(text: Aligned): Aligned = text.build {
        var at = 0
        while (at < text.size) {
            val end = matched(text.codes, at)
            if (end == at) add(text.codes[at], at++) else for (code in content) add(code, end - 1)
            at = maxOf(at, end)
        }
    }

    /** Where what matches at [start] ends; there if nothing does. */
    private fun matched(codes: IntArray, start: Int): Int {
        var end = start + pattern.size
        if (end > codes.size || !pattern.indices.all { codes[start + it] == pattern[it] }) return start
        if (repeats) while (end < codes.size && codes[end] == pattern[0]) end++
        return end
    }

    companion object {
        fun read(fields: Map<String, Place>): Replace {
            val (kind, place) = fields.getValue("pattern").table().entries.single()
            val pattern = place.string()
            val content = fields.getValue("content").string().codePoints().toArray()
            if (kind == "String" && pattern.isNotEmpty()) return Replace(pattern.codePoints().toArray(), false, content)
            val (character, count) = REPEATED.matchEntire(pattern)?.destructured
                ?: throw FormatError("normalizer 'Replace' of '$pattern' is unknown to this version; update effine")
            val repeated = character.repeat(count.toIntOrNull() ?: 1)
            return Replace(repeated.codePoints().toArray(), true, content)
        }
    }
}
