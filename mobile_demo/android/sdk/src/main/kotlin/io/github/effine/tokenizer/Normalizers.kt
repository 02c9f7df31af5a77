package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Json
import io.github.effine.Place

/** Changes text before it is split. */
internal fun interface Normalizer {
    fun apply(text: Aligned): Aligned
}

internal fun normalizer(place: Place): Normalizer {
    val fields = place.table()
    return when (val type = fields.getValue("type").string()) {
        "BertNormalizer" -> {
            val lowercase = fields.getValue("lowercase").boolean()
            BertNormalizer(
                fields.getValue("clean_text").boolean(),
                fields.getValue("handle_chinese_chars").boolean(),
                fields["strip_accents"]?.optional { boolean() } ?: lowercase,
                lowercase,
            )
        }
        "Sequence" -> {
            val parts = fields.getValue("normalizers").items().map(::normalizer)
            Normalizer { text -> parts.fold(text) { result, part -> part.apply(result) } }
        }
        "NFD" -> Normalizer { decomposed(it, Unicode::decomposition) }
        "NFKD" -> Normalizer { decomposed(it, Unicode::compatibility) }
        "NFC" -> Normalizer { composed(it, Unicode::decomposition) }
        "NFKC" -> Normalizer { composed(it, Unicode::compatibility) }
        "Lowercase" -> Normalizer(::lowerCased)
        "StripAccents" -> Normalizer { text -> text.filter { !Unicode.isMark(it) } }
        "Strip" -> Strip(fields.getValue("strip_left").boolean(), fields.getValue("strip_right").boolean())
        "Nmt" -> Normalizer { text -> text.filter { it !in NMT_REMOVED }.replace { if (it in NMT_SPACES) SPACE else null } }
        "Replace" -> Replace.read(fields)
        "Precompiled" -> Precompiled.read(fields.getValue("precompiled_charsmap"))
        else -> unsupported("normalizer", type)
    }
}

private val SPACE = intArrayOf(' '.code)
private val NMT_REMOVED = ((0x1..0x8) + 0xB + (0xE..0x1F) + listOf(0x7F, 0x8F, 0x9F)).toSet()
private val NMT_SPACES =
    (listOf(0x9, 0xA, 0xC, 0xD, 0x1680, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD) + (0x200B..0x200F)).toSet()

internal fun unsupported(part: String, type: String): Nothing =
    throw FormatError("$part '$type' is unknown to this version; update effine")

/** What BERT's tokenizer does to text. */
private class BertNormalizer(
    private val clean: Boolean,
    private val chinese: Boolean,
    private val stripAccents: Boolean,
    private val lowercase: Boolean,
) : Normalizer {
    override fun apply(text: Aligned): Aligned {
        var result = text
        if (clean) {
            result = result.filter { !Unicode.isRemoved(it) }.replace { if (Unicode.isWhitespace(it)) SPACE else null }
        }
        if (chinese) result = result.replace { if (isChinese(it)) intArrayOf(' '.code, it, ' '.code) else null }
        if (stripAccents) result = decomposed(result, Unicode::decomposition).filter { !Unicode.isNonspacingMark(it) }
        return if (lowercase) lowerCased(result) else result
    }

    private fun isChinese(code: Int) = CHINESE.any { code in it }

    private companion object {
        val CHINESE = listOf(
            0x4E00..0x9FFF, 0x3400..0x4DBF, 0x20000..0x2A6DF, 0x2A700..0x2B73F, 0x2B740..0x2B81F,
            0x2B920..0x2CEAF, 0xF900..0xFAFF, 0x2F800..0x2FA1F,
        )
    }
}

/** Removes whitespace at the ends. */
private class Strip(private val left: Boolean, private val right: Boolean) : Normalizer {
    override fun apply(text: Aligned): Aligned {
        var (start, end) = 0 to text.size
        if (left) while (start < end && Unicode.isWhitespace(text.codes[start])) start++
        if (right) while (start < end && Unicode.isWhitespace(text.codes[end - 1])) end--
        return text.slice(start, end)
    }
}

private fun lowerCased(text: Aligned): Aligned = text.replace(Unicode::lower)

/** A JSON field that may be missing or null. */
internal fun Map<String, Place>.present(key: String): Place? = get(key)?.takeIf { it.json != Json.Null }
