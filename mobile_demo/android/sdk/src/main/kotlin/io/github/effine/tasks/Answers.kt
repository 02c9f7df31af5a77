package io.github.effine.tasks

import io.github.effine.tokenizer.Unicode

private const val FINAL_SIGMA = 0x3C2
private const val SIGMA = 0x3C3
private val ARTICLES = setOf("a", "an", "the")
private val PUNCTUATION = listOf('!'..'/', ':'..'@', '['..'`', '{'..'~').flatten().map { it.code }.toSet()

/** SQuAD's normal form: the words in lower case, without punctuation and articles (1606.05250, section 6.1). */
internal fun normalised(text: String): List<String> {
    val result = StringBuilder()
    val word = StringBuilder()
    for (code in text.codePoints().toArray().flatMap(::lower) + ' '.code) {
        if (code in PUNCTUATION) continue
        if (Unicode.isLetter(code) || Unicode.isNumber(code)) {
            word.appendCodePoint(code)
            continue
        }
        result.append(if (word.toString() in ARTICLES) " " else word).appendCodePoint(code)
        word.clear()
    }
    return pieces(result.toString())
}

/** A final sigma counts as any other. */
private fun lower(code: Int): List<Int> =
    (Unicode.lower(code)?.asList() ?: listOf(code)).map { if (it == FINAL_SIGMA) SIGMA else it }

/** 1 if both have the same normal form, else 0. */
internal fun exactMatch(found: String, answer: String): Double = if (normalised(found) == normalised(answer)) 1.0 else 0.0

/** F1 of the words of both normal forms as bags; if one has none, whether both have none. */
internal fun tokenF1(found: String, answer: String): Double {
    val (a, b) = normalised(found) to normalised(answer)
    if (a.isEmpty() || b.isEmpty()) return if (a == b) 1.0 else 0.0
    val counts = b.groupingBy { it }.eachCount()
    val shared = a.groupingBy { it }.eachCount().entries.sumOf { (word, count) -> minOf(count, counts[word] ?: 0) }
    return 2.0 * shared / (a.size + b.size)
}
