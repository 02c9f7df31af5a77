package io.github.effine.tasks

import io.github.effine.DType
import io.github.effine.Example
import io.github.effine.Prediction
import io.github.effine.Tensor
import io.github.effine.accuracy
import io.github.effine.largest
import io.github.effine.macroF1
import io.github.effine.pairwiseSum
import io.github.effine.position
import kotlin.math.exp

/** One label out of several: accuracy and macro-F1 of the likeliest. */
internal object Classification : TextTask("classification") {
    override val metrics = listOf("accuracy", "macro_f1")

    override fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example {
        if (!labelled) return Example(example.text, textB = example.textB)
        if (example.label.isNullOrBlank()) refuse("the label is empty; give one or remove the example")
        return Example(example.text, example.label, example.textB)
    }

    override fun blank(samples: Int, rows: Int) = Tensor(DType.I64, listOf(samples))

    override fun mark(targets: Tensor, index: Int, example: Example, labels: List<String>) {
        targets.longs().put(index, position(example.label!!, labels, index).toLong())
    }

    override fun balancedWeights(targets: Tensor, labels: Int) = io.github.effine.balancedWeights(targets, labels)

    override fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>): Map<String, Double> {
        val predicted = IntArray(outputs.size) { largest(outputs[it]) }
        val wanted = samples.targets.longs().let { view -> IntArray(outputs.size) { view.get(it).toInt() } }
        return linkedMapOf("accuracy" to accuracy(predicted, wanted), "macro_f1" to macroF1(predicted, wanted))
    }

    override fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>) = outputs.map { logits ->
        val shares = softmax(logits)
        Prediction(labels[largest(logits)], labels.indices.associate { labels[it] to shares[it] })
    }

    override fun collapse(outputs: List<FloatArray>, samples: Samples, labels: List<String>): String? {
        if (outputs.size < 2 || outputs.map(::largest).distinct().size > 1) return null
        return "every prediction on the evaluation data is the same label: the classes are " +
            "unbalanced (try class weights 'balanced') or training is too short"
    }
}

/** Probabilities, in binary64. */
internal fun softmax(logits: FloatArray): DoubleArray {
    val highest = logits.max().toDouble()
    val shares = DoubleArray(logits.size) { exp(logits[it] - highest) }
    val sum = pairwiseSum(shares)
    return DoubleArray(shares.size) { shares[it] / sum }
}
