package io.github.effine

/** Samples are grouped by length inside windows of this many batches. */
private const val WINDOW = 16
private const val GOLDEN_GAMMA = 0x9E3779B97F4A7C15uL

/** The generator of Steele, Lea and Flood (2014); specified with the order of samples in the design. */
internal class SplitMix64(private var state: ULong) {
    fun next(): ULong {
        state += GOLDEN_GAMMA
        var z = state
        z = (z xor (z shr 30)) * 0xBF58476D1CE4E5B9uL
        z = (z xor (z shr 27)) * 0x94D049BB133111EBuL
        return z xor (z shr 31)
    }

    /** From 0 to [bound] - 1, all equally likely: too large numbers are drawn again. */
    fun uniform(bound: Int): Int {
        val wide = bound.toULong()
        // 2^64 modulo the bound, in 64 bits.
        val excess = (ULong.MAX_VALUE % wide + 1u) % wide
        while (true) {
            val number = next()
            if (number <= ULong.MAX_VALUE - excess) return (number % wide).toInt()
        }
    }

    /** Fisher-Yates from the end. */
    fun <T> shuffle(items: MutableList<T>) {
        for (i in items.size - 1 downTo 1) {
            val j = uniform(i + 1)
            val item = items[i]
            items[i] = items[j]
            items[j] = item
        }
    }
}

/** The first number of a generator that starts at [number]. */
internal fun mix(number: ULong): ULong = SplitMix64(number).next()

internal fun epochGenerator(seed: ULong, epoch: Int): SplitMix64 = SplitMix64(mix(seed xor mix(epoch.toULong())))

/** Indices of the samples of an epoch, batch by batch; [seqs] are their exported lengths. */
internal fun batches(seqs: IntArray, batch: Int, seed: ULong, epoch: Int): List<List<Int>> {
    val generator = epochGenerator(seed, epoch)
    val order = seqs.indices.toMutableList()
    generator.shuffle(order)
    return order.chunked(WINDOW * batch).flatMap { window ->
        val grouped = window.sortedBy { seqs[it] }.chunked(batch).toMutableList()
        generator.shuffle(grouped)
        grouped
    }
}
