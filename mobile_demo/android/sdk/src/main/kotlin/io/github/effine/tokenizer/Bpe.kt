package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Json
import io.github.effine.Place
import java.util.PriorityQueue

/** Merges neighbours, always the pair that was learned first, from single bytes on (Sennrich et al., 2016). */
internal class Bpe private constructor(
    private val vocabulary: Map<String, Int>,
    private val merges: Map<Long, Merge>,
    private val wholeWords: Boolean,
) : Model {
    private class Merge(val rank: Int, val id: Int)

    /** A pair that could be merged: valid while its left symbol is still [left] and its right one [right]. */
    private class Candidate(val merge: Merge, val at: Int, val left: Int, val right: Int)

    override fun tokens(word: Aligned): List<Token> {
        val whole = if (wholeWords) vocabulary[word.text()] else null
        return if (whole != null) listOf(Token(whole, 0, word.size)) else Symbols(word).merged()
    }

    private inner class Symbols(word: Aligned) {
        private val ids = IntArray(word.size) { vocabulary.getValue(word.text(it, it + 1)) }
        private val ends = IntArray(word.size) { it + 1 }
        private val before = IntArray(word.size) { it - 1 }
        private val gone = BooleanArray(word.size)
        private val queue = PriorityQueue<Candidate>(compareBy({ it.merge.rank }, { it.at }))

        fun merged(): List<Token> {
            for (at in ids.indices) offer(at)
            while (true) {
                val best = queue.poll() ?: break
                val next = ends[best.at]
                val stale = gone[best.at] || next == ids.size || ids[best.at] != best.left || ids[next] != best.right
                if (!stale) merge(best, next)
            }
            return ids.indices.filterNot { gone[it] }.map { Token(ids[it], it, ends[it]) }
        }

        private fun merge(best: Candidate, next: Int) {
            ids[best.at] = best.merge.id
            ends[best.at] = ends[next]
            gone[next] = true
            if (ends[next] < ids.size) before[ends[next]] = best.at
            if (before[best.at] >= 0) offer(before[best.at])
            offer(best.at)
        }

        private fun offer(at: Int) {
            val next = ends[at]
            if (next == ids.size) return
            val merge = merges[key(ids[at], ids[next])] ?: return
            queue += Candidate(merge, at, ids[at], ids[next])
        }
    }

    companion object {
        fun read(fields: Map<String, Place>): Bpe {
            for (name in listOf("dropout", "continuing_subword_prefix", "end_of_word_suffix")) {
                val set = fields.present(name)?.json
                if (set != null && set != Json.Text("")) throw FormatError("model: $name is unknown to this version")
            }
            val vocabulary = vocabulary(fields.getValue("vocab"))
            if (BYTE_CHARACTERS.any { String(Character.toChars(it)) !in vocabulary }) {
                throw FormatError("model: BPE that isn't byte-level is unknown to this version")
            }
            val list = fields.getValue("merges").json as? Json.Items ?: fields.getValue("merges").fail("a list")
            val merges = HashMap<Long, Merge>()
            list.values.forEachIndexed { rank, json ->
                val (left, right) = pair(json)
                merges[key(id(vocabulary, left), id(vocabulary, right))] = Merge(rank, id(vocabulary, left + right))
            }
            return Bpe(vocabulary, merges, fields.present("ignore_merges")?.boolean() ?: false)
        }

        private fun pair(json: Json): List<String> {
            val place = Place(json, "merges")
            val parts = if (json is Json.Text) json.value.split(' ') else place.items().map { it.string() }
            return if (parts.size == 2) parts else place.fail("a pair")
        }

        private fun id(vocabulary: Map<String, Int>, token: String) =
            vocabulary[token] ?: throw FormatError("model: merge of '$token', which has no id")

        private fun key(left: Int, right: Int): Long = left.toLong() shl Int.SIZE_BITS or right.toLong()
    }
}
