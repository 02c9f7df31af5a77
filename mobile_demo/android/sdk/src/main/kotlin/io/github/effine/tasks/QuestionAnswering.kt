package io.github.effine.tasks

import io.github.effine.Answer
import io.github.effine.DType
import io.github.effine.DataError
import io.github.effine.Example
import io.github.effine.FoundAnswer
import io.github.effine.Prediction
import io.github.effine.Tensor
import io.github.effine.Tokens
import io.github.effine.pairwiseSum
import io.github.effine.tokenizer.Encoding
import io.github.effine.tokenizer.Tokenizer
import kotlin.math.exp

/** Tokens of the longest answer that is looked for. */
private const val LONGEST = 30
private const val OVERLAP = 3
private const val BEYOND = -1f
private const val OUTSIDE_CONTEXT = -1

/**
 * A question and a part of its context.
 *
 * @property starts the character of the context that each token starts at; -1 for all other tokens.
 * @property ends the character after its last.
 */
internal class Window(ids: IntArray, typeIds: IntArray, val starts: IntArray, val ends: IntArray) : Tokens(ids, typeIds) {
    fun isContext(token: Int): Boolean = starts[token] != OUTSIDE_CONTEXT
}

/**
 * The part of a context that answers a question: SQuAD's F1 and exact match; the two outputs of a token
 * score it as the first and as the last.
 *
 * A context that doesn't fit is cut into windows which overlap by a third, each of them a sample with
 * the whole question. Where a window doesn't hold the answer, its first token (CLS) is learned.
 */
internal object QuestionAnswering : Task("question-answering") {
    override val metrics = listOf("f1", "exact_match")

    override fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example {
        val context = example.textB!!
        if (isBlank(example.text)) refuse("the question is empty; fill it in or remove the example")
        if (isBlank(context)) refuse("the context is empty; fill it in or remove the example")
        if (!labelled) return Example.question(example.text, context)
        val answers = example.answers
        if (answers.isNullOrEmpty()) refuse("has no answers; give at least one")
        val codes = context.codePoints().toArray()
        for (answer in answers) {
            if (!holds(codes, answer)) {
                refuse("answer '${answer.text}' is not in the context at character ${answer.start}")
            }
        }
        return Example.question(example.text, context, answers)
    }

    private fun holds(context: IntArray, answer: Answer): Boolean {
        val codes = answer.text.codePoints().toArray()
        if (isBlank(answer.text) || answer.start < 0 || answer.start + codes.size > context.size) return false
        return codes.indices.all { context[answer.start + it] == codes[it] }
    }

    /** First and last token. */
    override fun outputs(labels: List<String>) = 2

    override fun samples(
        examples: List<Example>,
        tokenizer: Tokenizer,
        maxLength: Int,
        labels: List<String>?,
        rows: Int,
    ): Samples {
        val windows = ArrayList<Window>()
        val owners = ArrayList<Int>()
        var truncated = 0
        examples.forEachIndexed { index, example ->
            val whole = tokenizer.encode(example.text, example.textB)
            val encoding = shortened(whole, maxLength)
            if (encoding.size < whole.size) truncated++
            val made = windows(encoding, maxLength)
            windows += made
            made.forEach { _ -> owners += index }
        }
        val targets = if (labels == null) {
            Tensor(DType.F32, listOf(windows.size))
        } else {
            targets(examples, windows, owners, maxLength)
        }
        return Samples(examples, windows, owners.toIntArray(), targets, truncated)
    }

    /** The question cut to half of the room that it shares with a window. */
    private fun shortened(encoding: Encoding, maxLength: Int): Encoding {
        val sequences = encoding.sequences
        val room = maxLength - sequences.count { it < 0 }
        if (room < 2) {
            throw DataError("$maxLength tokens hold no question with its context; export with longer --seq")
        }
        var question = 0
        return encoding.select { sequences[it] != 0 || question++ < room / 2 }
    }

    private fun windows(encoding: Encoding, maxLength: Int): List<Window> {
        val sequences = encoding.sequences
        val context = sequences.indices.filter { sequences[it] == 1 }
        val room = maxLength - (encoding.size - context.size)
        val step = room - room / OVERLAP
        return (0 until maxOf(1, context.size - room + step) step step).map { start ->
            val inside = context.drop(start).take(room).toSet()
            val part = encoding.select { sequences[it] < 1 || it in inside }
            val (parts, offsets) = part.sequences to part.offsets
            fun places(place: (IntRange) -> Int) =
                IntArray(part.size) { if (parts[it] == 1) place(offsets[it]) else OUTSIDE_CONTEXT }
            Window(part.ids, part.typeIds, places { it.first }, places { it.last + 1 })
        }
    }

    /** [N, 2, maxLength]: 1 where the answer starts (row 0) and ends (row 1), -1 beyond the tokens. */
    private fun targets(examples: List<Example>, windows: List<Window>, owners: List<Int>, maxLength: Int): Tensor {
        val targets = Tensor(DType.F32, listOf(windows.size, 2, maxLength))
        val view = targets.floats()
        windows.forEachIndexed { index, window ->
            val (first, last) = places(window, examples[owners[index]].answers!!.first())
            for ((row, place) in listOf(2 * index to first, 2 * index + 1 to last)) {
                for (token in window.ids.size until maxLength) view.put(row * maxLength + token, BEYOND)
                view.put(row * maxLength + place, 1f)
            }
        }
        return targets
    }

    /** The first and the last token of an answer; both are CLS if the window doesn't hold all of it. */
    private fun places(window: Window, answer: Answer): Pair<Int, Int> {
        val (begin, end) = answer.start to answer.start + answer.text.codePointCount(0, answer.text.length)
        val covering = window.starts.indices.filter {
            window.isContext(it) && window.ends[it] > begin && window.starts[it] < end
        }
        val whole = covering.isNotEmpty() &&
            window.starts[covering.first()] <= begin && window.ends[covering.last()] >= end
        return if (whole) covering.first() to covering.last() else 0 to 0
    }

    override fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>): Map<String, Double> {
        val found = predictions(outputs, samples, labels).map { it.answer!!.text }
        fun mean(score: (String, String) -> Double): Double {
            val best = DoubleArray(found.size) { i -> samples.examples[i].answers!!.maxOf { score(found[i], it.text) } }
            return pairwiseSum(best) / best.size
        }
        return linkedMapOf("f1" to mean(::tokenF1), "exact_match" to mean(::exactMatch))
    }

    override fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>): List<Prediction> {
        val own = samples.tokens.indices.groupBy { samples.owners[it] }
        return samples.examples.mapIndexed { index, example ->
            val windows = own.getValue(index).map { SpanScores(samples.tokens[it] as Window, outputs[it]) }
            Prediction(answer = best(example.textB!!.codePoints().toArray(), windows))
        }
    }

    /** The span with the largest score, over windows of one context; a context without any token has an empty answer. */
    private fun best(context: IntArray, windows: List<SpanScores>): FoundAnswer {
        val best = windows.maxBy { it.highest }
        if (best.highest == Double.NEGATIVE_INFINITY) return FoundAnswer("", 0, 0, 0.0)
        var (start, end) = best.place
        while (start < end && isSpace(context[start])) start++
        while (start < end && isSpace(context[end - 1])) end--
        val total = windows.sumOf { it.total(best.highest) }
        return FoundAnswer(String(context, start, end - start), start, end, 1.0 / total)
    }

    /** Sums of two logits for each part of a window's context of at most [LONGEST] tokens. */
    private class SpanScores(private val window: Window, private val logits: FloatArray) {
        var highest = Double.NEGATIVE_INFINITY
            private set

        /** The characters of the span with the highest score, from and up to. */
        var place = 0 to 0
            private set

        init {
            spans { first, last, score ->
                if (score > highest) {
                    highest = score
                    place = window.starts[first] to maxOf(window.starts[first], window.ends[last])
                }
            }
        }

        /** The sum of all scores' exponentials, relative to [highest]. */
        fun total(highest: Double): Double {
            var total = 0.0
            spans { _, _, score -> total += exp(score - highest) }
            return total
        }

        private inline fun spans(take: (Int, Int, Double) -> Unit) {
            for (first in window.starts.indices) {
                if (!window.isContext(first)) continue
                for (last in first until minOf(first + LONGEST, window.starts.size)) {
                    if (window.isContext(last)) take(first, last, logits[2 * first].toDouble() + logits[2 * last + 1])
                }
            }
        }
    }
}
