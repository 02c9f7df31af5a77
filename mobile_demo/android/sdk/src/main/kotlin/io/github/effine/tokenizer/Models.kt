package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Json
import io.github.effine.Place

/** A token of a word: its id and its part of the word, in code points. */
internal class Token(val id: Int, val start: Int, val end: Int)

/** Cuts a word into tokens. */
internal fun interface Model {
    fun tokens(word: Aligned): List<Token>
}

internal fun model(place: Place): Model {
    val fields = place.table()
    return when (val type = fields.getValue("type").string()) {
        "WordPiece" -> {
            val vocabulary = vocabulary(fields.getValue("vocab"))
            val unknown = fields.getValue("unk_token").string()
            WordPiece(
                vocabulary,
                vocabulary[unknown] ?: throw FormatError("model: the unknown token '$unknown' has no id"),
                fields.getValue("continuing_subword_prefix").string(),
                fields.getValue("max_input_chars_per_word").count(),
            )
        }
        "BPE" -> Bpe.read(fields)
        "Unigram" -> Unigram.read(fields)
        else -> unsupported("model", type)
    }
}

internal fun vocabulary(place: Place): Map<String, Int> {
    val table = place.json as? Json.Table ?: place.fail("a JSON object")
    return table.entries.mapValues { (_, id) -> Place(id, "vocab").count() }
}
