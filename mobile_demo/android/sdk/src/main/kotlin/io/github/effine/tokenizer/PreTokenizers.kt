package io.github.effine.tokenizer

import io.github.effine.Place

/** A part of the text, already a token of its own when [token] is its id. */
internal class Piece(val text: Aligned, val token: Int? = null)

/** Splits text into the words that the model sees. */
internal fun interface PreTokenizer {
    fun apply(text: Aligned): List<Aligned>
}

internal fun preTokenizer(place: Place): PreTokenizer {
    val fields = place.table()
    return when (val type = fields.getValue("type").string()) {
        "BertPreTokenizer" -> PreTokenizer { text ->
            text.splitRemoving(Unicode::isWhitespace).flatMap { it.splitIsolating(Unicode::isPunctuation) }
        }
        "ByteLevel" -> ByteLevel(
            fields.getValue("add_prefix_space").boolean(),
            fields.present("use_regex")?.boolean() ?: true,
        )
        "Metaspace" -> Metaspace.read(fields)
        "WhitespaceSplit" -> PreTokenizer { it.splitRemoving(Unicode::isWhitespace) }
        "Sequence" -> {
            val parts = fields.getValue("pretokenizers").items().map(::preTokenizer)
            PreTokenizer { text -> parts.fold(listOf(text)) { pieces, part -> pieces.flatMap(part::apply) } }
        }
        else -> unsupported("pre-tokenizer", type)
    }
}

private inline fun Aligned.splitRemoving(isBetween: (Int) -> Boolean): List<Aligned> {
    val words = ArrayList<Aligned>()
    var start = 0
    for (i in 0..size) {
        if (i < size && !isBetween(codes[i])) continue
        if (i > start) words += slice(start, i)
        start = i + 1
    }
    return words
}

private inline fun Aligned.splitIsolating(isAlone: (Int) -> Boolean): List<Aligned> {
    val words = ArrayList<Aligned>()
    var start = 0
    for (i in 0..size) {
        val alone = i < size && isAlone(codes[i])
        if (i < size && !alone) continue
        if (i > start) words += slice(start, i)
        if (alone) words += slice(i, i + 1)
        start = i + 1
    }
    return words
}
