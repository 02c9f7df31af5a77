package io.github.effine.tokenizer

private const val NON_JOINER = 0x200C
private const val JOINER = 0x200D
private const val CARRIAGE_RETURN = 0xD
private const val LINE_FEED = 0xA
private val PLAIN = 0x20..0x7E
private val SYLLABLES = 0xAC00..0xD7A3
private const val TAILS = 28

/**
 * What people see as one character: the extended grapheme clusters of Unicode's annex 29, but for
 * flags, each of whose halves is a cluster here.
 */
internal object Clusters {
    /** Where the cluster that starts at [start] ends. */
    fun end(codes: IntArray, start: Int): Int {
        val pictograph = Pictograph()
        val conjunct = Conjunct()
        for (end in start + 1 until codes.size) {
            val (before, code) = codes[end - 1] to codes[end]
            if (before in PLAIN && code in PLAIN) return end
            pictograph.take(before)
            conjunct.take(before)
            val joined = joins(before, code) || (pictograph.isOpen && Unicode.isPictograph(code)) ||
                (conjunct.isOpen && Unicode.isConsonant(code))
            if (!joined) return end
        }
        return codes.size
    }

    private fun joins(before: Int, code: Int): Boolean = when {
        before == CARRIAGE_RETURN && code == LINE_FEED -> true
        Unicode.isControl(before) || Unicode.isControl(code) -> false
        Unicode.isAttached(code) || Unicode.isPrepended(before) -> true
        Unicode.isLead(before) -> Unicode.isLead(code) || Unicode.isVowel(code) || code in SYLLABLES
        Unicode.isTail(code) -> Unicode.isTail(before) || Unicode.isVowel(before) || before in SYLLABLES
        Unicode.isVowel(code) -> Unicode.isVowel(before) || before in SYLLABLES && (before - SYLLABLES.first) % TAILS == 0
        else -> false
    }

    /** A pictograph, marks, and a joiner. */
    private class Pictograph {
        private var begun = false
        var isOpen = false
            private set

        fun take(code: Int) {
            isOpen = begun && code == JOINER
            begun = Unicode.isPictograph(code) || begun && Unicode.isExtending(code)
        }
    }

    /** An Indic consonant with marks, one of which links it to the next consonant. */
    private class Conjunct {
        private var begun = false
        private var linked = false
        val isOpen: Boolean get() = begun && linked

        fun take(code: Int) {
            when {
                Unicode.isConsonant(code) -> {
                    begun = true
                    linked = false
                }
                Unicode.isLinker(code) -> linked = true
                !isBetween(code) -> begun = false
            }
        }

        private fun isBetween(code: Int) = code == JOINER || code != NON_JOINER && Unicode.isExtending(code)
    }
}
