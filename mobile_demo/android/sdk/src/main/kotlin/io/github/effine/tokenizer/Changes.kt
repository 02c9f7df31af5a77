package io.github.effine.tokenizer

/**
 * A text as changed from another: each code point with 0 if it replaces the next one of the other,
 * 1 if it is inserted, -n if it replaces one and the n after that are gone.
 */
internal class Changes(capacity: Int) {
    var size = 0
        private set
    private var codes = IntArray(capacity + 16)
    private var kinds = IntArray(codes.size)

    fun code(at: Int): Int = codes[at]

    fun add(code: Int, kind: Int) {
        if (size == codes.size) {
            codes = codes.copyOf(2 * size)
            kinds = kinds.copyOf(2 * size)
        }
        codes[size] = code
        kinds[size++] = kind
    }

    /** [to] in the place of [count] code points. */
    fun addReplacement(to: IntArray, count: Int) {
        to.forEachIndexed { i, code -> add(code, if (i < count) 0 else 1) }
        if (to.size < count && size > 0) kinds[size - 1] += to.size - count
    }

    /** Sorts the code points from [start] up to, not including, [end] by a key, stably. */
    fun sort(start: Int, end: Int, key: (Int) -> Int) {
        val order = (start until end).sortedBy { key(codes[it]) }
        val (sortedCodes, sortedKinds) = order.map { codes[it] } to order.map { kinds[it] }
        for (i in order.indices) {
            codes[start + i] = sortedCodes[i]
            kinds[start + i] = sortedKinds[i]
        }
    }

    /**
     * Each code point put together with what stands before it, by [compose] where that is possible:
     * nothing with a [combiningClass] of its own or a higher one may stand between the two.
     */
    fun composed(combiningClass: (Int) -> Int, compose: (Int, Int) -> Int?): Changes {
        val result = Changes(size)
        var starter = NONE
        var last = NONE
        for (i in 0 until size) {
            val own = combiningClass(codes[i])
            val whole = if (starter == NONE || last >= own) null else compose(result.codes[starter], codes[i])
            if (whole != null) {
                result.codes[starter] = whole
                result.kinds[starter] += kinds[i] - 1
                continue
            }
            result.add(codes[i], kinds[i])
            if (own == 0) starter = result.size - 1
            last = if (own == 0) NONE else own
        }
        return result
    }

    /** The changed [text], with the origins that Hugging Face's tokenizers give to what is changed. */
    fun of(text: Aligned): Aligned = text.build {
        var next = 0
        for (i in 0 until size) {
            add(codes[i], if (kinds[i] > 0) maxOf(next - 1, 0) else next)
            if (kinds[i] <= 0) next += 1 - kinds[i]
        }
    }
}
