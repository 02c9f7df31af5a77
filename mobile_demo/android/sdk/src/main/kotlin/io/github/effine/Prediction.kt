package io.github.effine

/**
 * What a model says of an example: of these, what its task gives.
 *
 * @property label the likeliest label.
 * @property probabilities those of all labels, of a text or pair.
 * @property score what regression gives.
 * @property labels for several labels those whose probability is above one half.
 * @property words the words with their tags.
 * @property entities what the tags make.
 * @property answer the answer to a question.
 */
class Prediction internal constructor(
    val label: String? = null,
    val probabilities: Map<String, Double> = emptyMap(),
    val score: Double? = null,
    val labels: List<String>? = null,
    val words: List<TaggedWord>? = null,
    val entities: List<Entity>? = null,
    val answer: FoundAnswer? = null,
)

/** A word with its tag; the probability is null where the word was cut off. */
class TaggedWord internal constructor(val word: String, val tag: String, val probability: Double?)

/** Words from [start] up to, not including, [end]; [probability] is the least of their tags. */
class Entity internal constructor(
    val label: String,
    val start: Int,
    val end: Int,
    val text: String,
    val probability: Double,
)

/**
 * The likeliest answer, from character (code point) [start] of the context up to, not including, [end].
 *
 * @property probability its share among all parts of the context that are short enough.
 */
class FoundAnswer internal constructor(val text: String, val start: Int, val end: Int, val probability: Double)
