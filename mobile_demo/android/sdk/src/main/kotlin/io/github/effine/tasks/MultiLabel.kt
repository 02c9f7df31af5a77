package io.github.effine.tasks

import io.github.effine.DType
import io.github.effine.Example
import io.github.effine.Prediction
import io.github.effine.Tensor
import io.github.effine.applying
import io.github.effine.labelF1
import io.github.effine.position
import kotlin.math.tanh

/** Any number of labels; one applies where its logit is above 0. */
internal object MultiLabel : TextTask("multilabel") {
    override val metrics = listOf("micro_f1", "macro_f1")

    override fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example {
        if (!labelled) return Example(example.text, textB = example.textB)
        val labels = example.labels ?: refuse("has no labels; give those that apply, or an empty list")
        if (labels.any { it.isBlank() }) refuse("a label is empty; give one or remove it")
        if (labels.distinct() != labels) refuse("a label is given twice; remove one")
        return Example(example.text, textB = example.textB, labels = labels)
    }

    override fun blank(samples: Int, rows: Int) = Tensor(DType.F32, listOf(samples, rows))

    override fun mark(targets: Tensor, index: Int, example: Example, labels: List<String>) {
        val start = index * targets.shape[1]
        for (label in example.labels!!) targets.floats().put(start + position(label, labels, index), 1f)
    }

    override fun balancedWeights(targets: Tensor, labels: Int) = io.github.effine.balancedWeights(targets, labels)

    override fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>) =
        labelF1(outputs, applying(samples.targets, outputs.first().size))

    override fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>) = outputs.map { logits ->
        val shares = labels.indices.associate { labels[it] to 0.5 + 0.5 * tanh(0.5 * logits[it]) }
        Prediction(probabilities = shares, labels = shares.filterValues { it > 0.5 }.keys.toList())
    }
}
