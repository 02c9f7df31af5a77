package io.github.effine.tasks

internal const val OUTSIDE = "O"
private val PREFIXES = setOf("B", "I", "E", "S")

/** A label, its first word, and the word after the last. */
internal data class Span(val label: String, val start: Int, val end: Int)

/**
 * The entities in the tags of a text, as CoNLL-2000's conlleval and seqeval find them.
 *
 * Tags are `O`, or a prefix and a label such as `B-artist`. An entity goes on over tags I and E of its
 * label, ends after E, and one that starts with I or E is taken as it is. Tags without a prefix count
 * as I.
 */
internal fun entities(tags: List<String>): List<Span> {
    val found = ArrayList<Span>()
    var before = OUTSIDE
    (tags + OUTSIDE).forEachIndexed { place, tag ->
        val (last, old) = parts(before)
        val (kind, label) = parts(tag)
        val goesOn = (kind == "I" || kind == "E") && (last == "B" || last == "I") && label == old
        if (last.isNotEmpty() && !goesOn) found[found.lastIndex] = found.last().copy(end = place)
        if (kind.isNotEmpty() && !goesOn) found += Span(label, place, place)
        before = tag
    }
    return found
}

/** F1, precision and recall of entities, over all texts; 0 where there is nothing to count. */
internal fun entityScores(given: List<List<String>>, found: List<List<String>>): Map<String, Double> {
    var (right, expected, predicted) = Triple(0, 0, 0)
    for ((a, b) in given.zip(found)) {
        val (wanted, made) = entities(a).toSet() to entities(b).toSet()
        right += wanted.intersect(made).size
        expected += wanted.size
        predicted += made.size
    }
    return linkedMapOf(
        "entity_f1" to 2.0 * right / maxOf(1, expected + predicted),
        "entity_precision" to right.toDouble() / maxOf(1, predicted),
        "entity_recall" to right.toDouble() / maxOf(1, expected),
    )
}

/** Prefix and label of a tag; both are empty outside. */
private fun parts(tag: String): Pair<String, String> {
    if (tag == OUTSIDE) return "" to ""
    val prefix = tag.substringBefore('-', "")
    return if (prefix in PREFIXES) prefix to tag.substringAfter('-') else "I" to tag
}
