package io.github.effine.tokenizer

internal const val NONE = -1

/** One token: its id, where it is in its text, in which word of which text, and the spaces at its ends. */
internal data class Entry(
    val id: Int,
    val start: Int = 0,
    val end: Int = 0,
    val word: Int = NONE,
    val type: Int = 0,
    val sequence: Int = NONE,
    val spacesBefore: Int = 0,
    val spacesAfter: Int = 0,
)

/** The tokens of a text or pair, special tokens included. */
class Encoding internal constructor(private val entries: List<Entry>) {
    val size: Int get() = entries.size

    /** Token ids. */
    val ids: IntArray get() = IntArray(size) { entries[it].id }

    /** Token types: 0, and 1 for the second text of a pair. */
    val typeIds: IntArray get() = IntArray(size) { entries[it].type }

    /** Where each token is in its text, in code points; 0 to 0 for special tokens. */
    val offsets: List<IntRange> get() = entries.map { it.start until it.end }

    /** The word of its text that each token belongs to; -1 for special tokens. */
    val words: IntArray get() = IntArray(size) { entries[it].word }

    /** Which text each token comes from, 0 or 1; -1 for special tokens. */
    val sequences: IntArray get() = IntArray(size) { entries[it].sequence }

    /** The tokens at the places for which [keep] holds. */
    internal fun select(keep: (Int) -> Boolean): Encoding = Encoding(entries.filterIndexed { place, _ -> keep(place) })

    /**
     * The same cut to [maxLength] tokens, from the end of the longer text first: the shorter text
     * stays whole if it leaves the longer one as much; otherwise they share the room, and an odd
     * token goes to the longer one (to the second of equals).
     */
    fun truncated(maxLength: Int): Encoding {
        if (size <= maxLength) return this
        val (first, second) = entries.count { it.sequence == 0 } to entries.count { it.sequence == 1 }
        val room = maxLength - (size - first - second)
        val kept = longestFirst(first, second, room)
        val seen = IntArray(2)
        return Encoding(entries.filter { it.sequence == NONE || seen[it.sequence]++ < kept[it.sequence] })
    }
}

private fun longestFirst(first: Int, second: Int, room: Int): IntArray {
    var (short, long) = minOf(first, second) to maxOf(first, second)
    if (first + second > room) {
        long = maxOf(short, room - short)
        if (short + long > room) {
            short = room / 2
            long = room - short
        }
    }
    return if (first > second) intArrayOf(long, short) else intArrayOf(short, long)
}
