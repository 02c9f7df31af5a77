package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place

/** A token that is found in the text before anything else looks at it, such as [MASK]. */
private class Added(val codes: IntArray, val id: Int, val takesLeft: Boolean, val takesRight: Boolean)

/** Finds added tokens: the leftmost, and of those the longest. */
internal class AddedTokens private constructor(tokens: List<Added>) {
    private val byFirst = tokens.sortedByDescending { it.codes.size }.groupBy { it.codes[0] }

    fun split(text: Aligned): List<Piece> {
        val pieces = ArrayList<Piece>()
        var done = 0
        var at = 0
        while (at < text.size) {
            val found = byFirst[text.codes[at]]?.firstOrNull { text.matches(it.codes, at) }
            if (found == null) {
                at++
                continue
            }
            var (start, end) = at to at + found.codes.size
            if (found.takesLeft) while (start > done && Unicode.isWhitespace(text.codes[start - 1])) start--
            at = end
            if (found.takesRight) while (end < text.size && Unicode.isWhitespace(text.codes[end])) end++
            if (start > done) pieces += Piece(text.slice(done, start))
            pieces += Piece(text.slice(start, end), found.id)
            done = end
            at = maxOf(at, end)
        }
        if (done < text.size) pieces += Piece(text.slice(done, text.size))
        return pieces
    }

    private fun Aligned.matches(codes: IntArray, at: Int): Boolean =
        at + codes.size <= size && codes.indices.all { this.codes[at + it] == codes[it] }

    companion object {
        /** The tokens that are looked for in text before normalization, and those after it. */
        fun read(place: Place, normalizer: Normalizer): Pair<AddedTokens, AddedTokens> {
            val (normalized, plain) = place.items().map { it.table() }
                .partition { it.getValue("normalized").boolean() }
            return AddedTokens(plain.map { added(it) { text -> text } }) to
                AddedTokens(normalized.map { added(it, normalizer) })
        }

        private fun added(fields: Map<String, Place>, normalizer: Normalizer): Added {
            val content = fields.getValue("content").string()
            val codes = normalizer.apply(Aligned.of(content)).codes
            if (codes.isEmpty() || fields.getValue("single_word").boolean()) {
                throw FormatError("added token '$content' is empty or a single word, which this version doesn't know")
            }
            return Added(
                codes,
                fields.getValue("id").count(),
                fields.getValue("lstrip").boolean(),
                fields.getValue("rstrip").boolean(),
            )
        }
    }
}
