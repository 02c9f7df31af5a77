package io.github.effine.tokenizer

/**
 * Text while it is being changed: code points, each with the part of the original text, in code
 * points, that it comes from.
 */
internal class Aligned(val codes: IntArray, val starts: IntArray, val ends: IntArray) {
    val size: Int get() = codes.size

    fun slice(from: Int, to: Int): Aligned =
        Aligned(codes.copyOfRange(from, to), starts.copyOfRange(from, to), ends.copyOfRange(from, to))

    fun text(from: Int = 0, to: Int = size): String = String(codes, from, to - from)

    /** Keeps the code points for which [keep] holds. */
    inline fun filter(keep: (Int) -> Boolean): Aligned = build {
        for (i in 0 until size) if (keep(codes[i])) add(codes[i], i)
    }

    /** Puts the code points that [change] gives, if any, in a code point's place. */
    inline fun replace(change: (Int) -> IntArray?): Aligned = build {
        for (i in 0 until size) {
            val replacement = change(codes[i])
            if (replacement == null) add(codes[i], i) else for (code in replacement) add(code, i)
        }
    }

    /** The same behind [code], which comes from where the first code point does; there must be one. */
    fun behind(code: Int): Aligned = build {
        add(code, 0)
        for (i in 0 until size) add(codes[i], i)
    }

    inline fun build(fill: Builder.() -> Unit): Aligned = Builder(this).apply(fill).result()

    /** Collects code points that come from places in [source]. */
    class Builder(private val source: Aligned) {
        private var codes = IntArray(source.size + 16)
        private var starts = IntArray(codes.size)
        private var ends = IntArray(codes.size)
        private var size = 0

        fun add(code: Int, place: Int) {
            if (size == codes.size) {
                codes = codes.copyOf(2 * size)
                starts = starts.copyOf(2 * size)
                ends = ends.copyOf(2 * size)
            }
            codes[size] = code
            starts[size] = source.starts[place]
            ends[size++] = source.ends[place]
        }

        fun result(): Aligned = Aligned(codes.copyOf(size), starts.copyOf(size), ends.copyOf(size))
    }

    companion object {
        fun of(text: String): Aligned {
            val codes = text.codePoints().toArray()
            return Aligned(codes, IntArray(codes.size) { it }, IntArray(codes.size) { it + 1 })
        }
    }
}
