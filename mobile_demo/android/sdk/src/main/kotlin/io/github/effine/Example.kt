package io.github.effine

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A part of a context, and the character (code point) that it starts at. */
data class Answer(val text: String, val start: Int)

/**
 * One text or pair of texts with what is to be learned from it.
 *
 * @property text the text; a question, where [textB] is its context.
 * @property textB the second text of a pair.
 * @property label the class, for classification.
 * @property score the target, for regression.
 * @property labels those that apply, perhaps none, for several labels.
 * @property words the text as words, for tags; without them it is split at whitespace.
 * @property tags a tag for each word.
 * @property answers what is right for a question; the first is learned.
 */
data class Example(
    val text: String,
    val label: String? = null,
    val textB: String? = null,
    val score: Double? = null,
    val labels: List<String>? = null,
    val words: List<String>? = null,
    val tags: List<String>? = null,
    val answers: List<Answer>? = null,
) {
    companion object {
        /** Words with a tag for each. */
        @JvmStatic
        @JvmOverloads
        fun tagged(words: List<String>, tags: List<String>? = null): Example =
            Example(words.joinToString(" "), words = words, tags = tags)

        /** A question about a context. */
        @JvmStatic
        @JvmOverloads
        fun question(question: String, context: String, answers: List<Answer>? = null): Example =
            Example(question, textB = context, answers = answers)
    }
}

/** The sha256 of the examples' content and order, as Python's effine.runtime.examples specifies it. */
internal fun fingerprint(examples: List<Example>): String {
    val digest = sha256()
    fun number(size: Int) = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    fun update(count: Int) = digest.update(number(Long.SIZE_BYTES).putLong(count.toLong()).array())
    fun update(text: String?) {
        digest.update((if (text == null) 0 else 1).toByte())
        if (text == null) return
        val bytes = text.toByteArray()
        update(bytes.size)
        digest.update(bytes)
    }
    for (example in examples) {
        listOf(example.text, example.textB, example.label).forEach(::update)
        digest.update((if (example.score == null) 0 else 1).toByte())
        if (example.score != null) digest.update(number(Double.SIZE_BYTES).putDouble(example.score).array())
        for (texts in listOfNotNull(example.labels, example.words, example.tags)) {
            update(texts.size)
            texts.forEach(::update)
        }
        if (example.answers != null) {
            update(example.answers.size)
            for (answer in example.answers) {
                update(answer.text)
                update(answer.start)
            }
        }
    }
    return digest.hex()
}
