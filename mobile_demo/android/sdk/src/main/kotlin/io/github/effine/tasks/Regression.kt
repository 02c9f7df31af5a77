package io.github.effine.tasks

import io.github.effine.DType
import io.github.effine.Example
import io.github.effine.Prediction
import io.github.effine.Tensor
import io.github.effine.pairwiseSum
import io.github.effine.pearson
import io.github.effine.ranks
import kotlin.math.abs

/** A score: correlations and squared error. */
internal object Regression : TextTask("regression") {
    override val metrics = listOf("pearson", "spearman", "mse")

    override fun read(example: Example, labelled: Boolean, refuse: (String) -> Nothing): Example {
        if (!labelled) return Example(example.text, textB = example.textB)
        if (!(abs(example.score ?: Double.NaN) <= Float.MAX_VALUE)) {
            refuse("score ${example.score} is not a finite number; give one such as 3.5")
        }
        return Example(example.text, textB = example.textB, score = example.score)
    }

    override fun outputs(labels: List<String>) = 1

    override fun blank(samples: Int, rows: Int) = Tensor(DType.F32, listOf(samples))

    override fun mark(targets: Tensor, index: Int, example: Example, labels: List<String>) {
        targets.floats().put(index, example.score!!.toFloat())
    }

    override fun evaluate(outputs: List<FloatArray>, samples: Samples, labels: List<String>): Map<String, Double> {
        val scores = DoubleArray(outputs.size) { outputs[it][0].toDouble() }
        val wanted = samples.targets.floats().let { view -> DoubleArray(outputs.size) { view.get(it).toDouble() } }
        val squares = DoubleArray(scores.size) { (scores[it] - wanted[it]) * (scores[it] - wanted[it]) }
        return linkedMapOf(
            "pearson" to pearson(scores, wanted),
            "spearman" to pearson(ranks(scores), ranks(wanted)),
            "mse" to pairwiseSum(squares) / squares.size,
        )
    }

    override fun predictions(outputs: List<FloatArray>, samples: Samples, labels: List<String>) =
        outputs.map { Prediction(score = it[0].toDouble()) }
}
