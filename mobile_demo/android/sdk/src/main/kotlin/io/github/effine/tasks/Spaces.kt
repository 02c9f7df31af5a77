package io.github.effine.tasks

import io.github.effine.tokenizer.Unicode

private val SEPARATORS = 0x1C..0x1F

/** Whether Python takes a character for whitespace. */
internal fun isSpace(code: Int): Boolean = Unicode.isWhitespace(code) || code in SEPARATORS

internal fun isBlank(text: String): Boolean = text.codePoints().allMatch(::isSpace)

/** The text between whitespace. */
internal fun pieces(text: String): List<String> {
    val pieces = ArrayList<String>()
    val piece = StringBuilder()
    for (code in text.codePoints().toArray() + ' '.code) {
        if (!isSpace(code)) {
            piece.appendCodePoint(code)
        } else if (piece.isNotEmpty()) {
            pieces += piece.toString()
            piece.clear()
        }
    }
    return pieces
}
