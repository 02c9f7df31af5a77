package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place

/** Writes [mark] for every space, puts one at the front, and splits before each (SentencePiece). */
internal class Metaspace private constructor(
    private val mark: Int,
    private val prepend: String,
    private val split: Boolean,
) : PreTokenizer {
    override fun apply(text: Aligned): List<Aligned> {
        val marked = text.replace { if (it == ' '.code) intArrayOf(mark) else null }
        val begins = prepend == ALWAYS || prepend == FIRST && marked.starts[0] == 0
        val whole = if (begins && marked.codes[0] != mark) marked.behind(mark) else marked
        return if (split) whole.splitBefore(mark) else listOf(whole)
    }

    private fun Aligned.splitBefore(mark: Int): List<Aligned> {
        val starts = (0 until size).filter { it == 0 || codes[it] == mark } + size
        return starts.zipWithNext { start, end -> slice(start, end) }
    }

    companion object {
        private const val ALWAYS = "always"
        private const val FIRST = "first"
        private const val NEVER = "never"

        fun read(fields: Map<String, Place>): Metaspace {
            val mark = fields.getValue("replacement").string()
            if (mark.codePointCount(0, mark.length) != 1) {
                throw FormatError("pre-tokenizer: '$mark' is not one character")
            }
            val prepend = fields.present("prepend_scheme")?.oneOf(ALWAYS, FIRST, NEVER) ?: ALWAYS
            return Metaspace(mark.codePointAt(0), prepend, fields.present("split")?.boolean() ?: true)
        }
    }
}
