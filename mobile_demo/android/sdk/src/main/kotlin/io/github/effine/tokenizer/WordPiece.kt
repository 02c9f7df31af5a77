package io.github.effine.tokenizer

/** Always the longest token that fits, continuations marked by a prefix (Wu et al., 2016). */
internal class WordPiece(
    private val vocabulary: Map<String, Int>,
    private val unknown: Int,
    private val prefix: String,
    private val longestWord: Int,
) : Model {
    private val longestToken = vocabulary.keys.maxOf { it.codePointCount(0, it.length) }

    override fun tokens(word: Aligned): List<Token> {
        val whole = listOf(Token(unknown, 0, word.size))
        if (word.size > longestWord) return whole
        val tokens = ArrayList<Token>()
        var start = 0
        while (start < word.size) {
            val token = longest(word, start) ?: return whole
            tokens += token
            start = token.end
        }
        return tokens
    }

    private fun longest(word: Aligned, start: Int): Token? {
        for (end in minOf(word.size, start + longestToken) downTo start + 1) {
            val part = word.text(start, end)
            val id = vocabulary[if (start == 0) part else prefix + part]
            if (id != null) return Token(id, start, end)
        }
        return null
    }
}
