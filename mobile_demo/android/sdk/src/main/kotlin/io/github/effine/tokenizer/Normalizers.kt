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
        "NFD" -> Normalizer(::decomposed)
        "Lowercase" -> Normalizer(::lowerCased)
        else -> unsupported("normalizer", type)
    }
}

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
        if (stripAccents) result = decomposed(result).filter { !Unicode.isNonspacingMark(it) }
        return if (lowercase) lowerCased(result) else result
    }

    private fun isChinese(code: Int) = CHINESE.any { code in it }

    private companion object {
        val SPACE = intArrayOf(' '.code)
        val CHINESE = listOf(
            0x4E00..0x9FFF, 0x3400..0x4DBF, 0x20000..0x2A6DF, 0x2A700..0x2B73F, 0x2B740..0x2B81F,
            0x2B920..0x2CEAF, 0xF900..0xFAFF, 0x2F800..0x2FA1F,
        )
    }
}

private fun lowerCased(text: Aligned): Aligned = text.replace(Unicode::lower)

/** Normalization form D; marks that change places leave their origins where they were. */
private fun decomposed(text: Aligned): Aligned {
    val codes = ArrayList<Int>(text.size)
    val isFirst = ArrayList<Boolean>(text.size)
    for (code in text.codes) {
        val parts = Unicode.decomposition(code)
        codes += parts?.asList() ?: listOf(code)
        repeat(parts?.size ?: 1) { isFirst += it == 0 }
    }
    reorderMarks(codes, isFirst)
    return text.build {
        var place = -1
        for (i in codes.indices) {
            if (isFirst[i]) place++
            add(codes[i], maxOf(place, 0))
        }
    }
}

/** Sorts every run of combining marks by class, stably. */
private fun reorderMarks(codes: MutableList<Int>, isFirst: MutableList<Boolean>) {
    var start = 0
    while (start < codes.size) {
        var end = start
        while (end < codes.size && Unicode.combiningClass(codes[end]) > 0) end++
        if (end - start > 1) {
            val order = (start until end).sortedBy { Unicode.combiningClass(codes[it]) }
            val sorted = order.map { codes[it] to isFirst[it] }
            sorted.forEachIndexed { i, (code, first) ->
                codes[start + i] = code
                isFirst[start + i] = first
            }
        }
        start = end + 1
    }
}

/** A JSON field that may be missing or null. */
internal fun Map<String, Place>.present(key: String): Place? = get(key)?.takeIf { it.json != Json.Null }
