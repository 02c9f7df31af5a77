package io.github.effine.tokenizer

/** Normalization forms D and KD; marks that change places take their origins along. */
internal fun decomposed(text: Aligned, decomposition: (Int) -> IntArray?): Aligned =
    decomposition(text, decomposition).of(text)

/** Normalization forms C and KC. */
internal fun composed(text: Aligned, decomposition: (Int) -> IntArray?): Aligned =
    decomposition(text, decomposition).composed(Unicode::combiningClass, Unicode::composition).of(text)

private fun decomposition(text: Aligned, decomposition: (Int) -> IntArray?): Changes {
    val parts = Changes(text.size)
    for (code in text.codes) {
        val own = decomposition(code)
        if (own == null) parts.add(code, 0) else parts.addReplacement(own, 1)
    }
    sortMarks(parts)
    return parts
}

/** Sorts every run of combining marks by class. */
private fun sortMarks(parts: Changes) {
    var start = 0
    while (start < parts.size) {
        var end = start
        while (end < parts.size && Unicode.combiningClass(parts.code(end)) > 0) end++
        if (end - start > 1) parts.sort(start, end, Unicode::combiningClass)
        start = end + 1
    }
}
