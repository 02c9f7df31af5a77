package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Json
import io.github.effine.Place

private const val UNKNOWN_PENALTY = 10.0

/** Cuts a word into the likeliest pieces (Kudo, 2018); pieces that aren't known become one. */
internal class Unigram private constructor(
    private val vocabulary: Map<String, Int>,
    private val scores: DoubleArray,
    private val unknown: Int,
    private val byteFallback: Boolean,
) : Model {
    private val longest = vocabulary.keys.maxOf { it.codePointCount(0, it.length) }
    private val unknownScore = scores.min() - UNKNOWN_PENALTY

    override fun tokens(word: Aligned): List<Token> = parts(word).flatMap { part ->
        val text = word.text(part.first, part.last + 1)
        val ids = vocabulary[text]?.let { listOf(it) } ?: bytes(text) ?: listOf(unknown)
        ids.map { Token(it, part.first, part.last + 1) }
    }

    private fun parts(word: Aligned): List<IntRange> {
        val best = BestPath(word.size)
        for (start in 0 until word.size) {
            var alone = false
            for (end in start + 1..minOf(word.size, start + longest)) {
                val id = vocabulary[word.text(start, end)] ?: continue
                best.offer(start, end, id, scores[id])
                if (end == start + 1) alone = true
            }
            if (!alone) best.offer(start, start + 1, unknown, unknownScore)
        }
        val parts = ArrayList<IntRange>()
        var fused = false
        for (end in best.ends()) {
            val isUnknown = best.ids[end] == unknown
            val start = best.starts[end]
            if (isUnknown && fused) parts[parts.lastIndex] = start..parts.last().last else parts += start until end
            fused = isUnknown
        }
        return parts.asReversed()
    }

    /** Ids of the bytes of a text; null if there is none for one of them. */
    private fun bytes(text: String): List<Int>? {
        if (!byteFallback) return null
        val ids = text.toByteArray().map { vocabulary["<0x%02X>".format(it)] }
        return if (null in ids) null else ids.filterNotNull()
    }

    /** For each place in a word the best way to get there: its score, and where its last piece starts. */
    private class BestPath(size: Int) {
        private val scores = DoubleArray(size + 1)
        val starts = IntArray(size + 1) { NONE }
        val ids = IntArray(size + 1)

        fun offer(start: Int, end: Int, id: Int, score: Double) {
            val total = score + scores[start]
            if (starts[end] != NONE && total <= scores[end]) return
            scores[end] = total
            starts[end] = start
            ids[end] = id
        }

        /** Where the pieces of the best path end, from the last on. */
        fun ends(): Sequence<Int> = generateSequence(ids.size - 1) { starts[it] }.takeWhile { it > 0 }
    }

    companion object {
        fun read(fields: Map<String, Place>): Unigram {
            val place = fields.getValue("vocab")
            val list = place.json as? Json.Items ?: place.fail("a list")
            val vocabulary = HashMap<String, Int>()
            val scores = DoubleArray(list.values.size)
            list.values.forEachIndexed { id, item ->
                val pair = (item as? Json.Items)?.values
                val token = pair?.firstOrNull() as? Json.Text
                if (pair?.size != 2 || token == null) Place(item, "vocab[$id]").fail("a piece with its score")
                vocabulary[token.value] = id
                scores[id] = score(pair[1])
            }
            val unknown = fields.present("unk_id")?.count()
            if (unknown == null || unknown >= scores.size) {
                throw FormatError("model: Unigram without an unknown token is unknown to this version")
            }
            return Unigram(vocabulary, scores, unknown, fields.present("byte_fallback")?.boolean() ?: false)
        }

        /**
         * A score as Rust's serde_json reads it, which rounds twice: one unit in the last place decides
         * between ways of cutting a word that are equally good.
         */
        private fun score(json: Json): Double {
            val written = (json as? Json.Real)?.written ?: return Place(json, "score").number()
            val (mantissa, exponent) = written.lowercase().split('e').let { it[0] to (it.getOrNull(1)?.toInt() ?: 0) }
            val (whole, fraction) = mantissa.removePrefix("-").split('.').let { it[0] to it.getOrElse(1) { "" } }
            val digits = (whole + fraction).toULongOrNull()?.toDouble() ?: return written.toDouble()
            val power = exponent - fraction.length
            val size = if (power < 0) digits / "1e${-power}".toDouble() else digits * "1e$power".toDouble()
            return if (written.startsWith('-')) -size else size
        }
    }
}
