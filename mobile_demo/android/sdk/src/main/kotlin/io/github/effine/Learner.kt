package io.github.effine

import kotlin.math.exp

/** A label with the probabilities of all labels, or a score. */
class Prediction internal constructor(
    val label: String?,
    val probabilities: Map<String, Double>,
    val score: Double? = null,
)

/** Moves tensors between features, state and programs; knows no method. */
internal class Learner(private val artifact: Artifact, private val engine: Engine) {
    private val manifest = artifact.manifest
    private val features = FeatureSource(manifest, engine)
    private val buffers = Buffers()
    private var next = State.zeros(manifest)

    @Volatile
    var labels = manifest.task.labels
        private set
    var state = artifact.initialState()
        private set

    /** Goes back to the initial state; labels added on the device stay. */
    fun reset() {
        state.copyFrom(artifact.initialState())
        for (row in manifest.task.labels.size until labels.size) switchOn(row)
    }

    fun restore(state: State, labels: List<String>) {
        this.state.copyFrom(state)
        this.labels = labels
    }

    /**
     * Trains on one batch.
     *
     * @param rates the learning rate of each parameter group.
     * @param step updates since the moments were zero, this one included.
     * @return the loss, or null if it or the new state isn't finite; the state is then the old one.
     */
    fun update(data: Dataset, samples: List<Int>, rates: Map<String, Float>, step: Int): Float? {
        val seq = samples.maxOf { data.seqs[it] }
        val method = manifest.trainMethod(seq)
        val given = features.batch(samples.map { data.tokens[it] }, manifest.batch, seq)
        val weights = data.weights(samples).copyOf(manifest.batch)
        engine.run(
            method,
            { spec -> given[spec.name] ?: input(method, spec, data, samples, weights, rates, step) },
            { spec -> next.tensors[spec.name] ?: buffers.of(method, spec) },
        )
        val loss = buffers.of(method, method.outputs.first { it.role == "loss" }).floats().get(0)
        if (!loss.isFinite() || !next.isFinite()) return null
        state = next.also { next = state }
        return loss
    }

    private fun input(
        method: ProgramMethod,
        spec: TensorSpec,
        data: Dataset,
        samples: List<Int>,
        weights: FloatArray,
        rates: Map<String, Float>,
        step: Int,
    ): Tensor {
        state.tensors[spec.name]?.let { return it }
        val tensor = buffers.of(method, spec)
        when (spec.name) {
            "labels" -> data.putTargets(samples, tensor)
            "example_weight" -> tensor.floats().put(weights)
            "weight_sum" -> tensor.floats().put(pairwiseSum(weights))
            "step" -> tensor.floats().put(step.toFloat())
            else -> {
                val rate = rates[spec.name.removePrefix("learning_rate.")]
                    ?: throw EngineError("${method.name}: input ${spec.name} is unknown to this version; update effine")
                tensor.floats().put(rate)
            }
        }
        return tensor
    }

    /** Logits of the labels in use for every sample, computed in batches of similar length. */
    fun logits(data: Dataset): List<FloatArray> {
        val batch = if (data.size == 1) 1 else manifest.batch
        val rows = arrayOfNulls<FloatArray>(data.size)
        for (samples in data.seqs.indices.sortedBy { data.seqs[it] }.chunked(batch)) {
            val seq = samples.maxOf { data.seqs[it] }
            val method = manifest.predictMethod(batch, seq)
            val given = features.batch(samples.map { data.tokens[it] }, batch, seq)
            engine.run(method, { given[it.name] ?: state[it.name] }, { buffers.of(method, it) })
            val output = buffers.of(method, method.outputs.first { it.role == "logits" })
            val columns = output.shape[1]
            val values = output.floats()
            samples.forEachIndexed { row, sample ->
                rows[sample] = FloatArray(maxOf(1, labels.size)) { values.get(row * columns + it) }
            }
        }
        return rows.map { it!! }
    }

    fun metrics(data: Dataset): Map<String, Double> = evaluate(manifest.task, logits(data), data.targets)

    /** Turns one row of logits into a label with probabilities, or a score. */
    fun prediction(logits: FloatArray): Prediction {
        if (manifest.task.isRegression) return Prediction(null, emptyMap(), logits[0].toDouble())
        val highest = logits.max().toDouble()
        val shares = DoubleArray(logits.size) { exp(logits[it] - highest) }
        val sum = pairwiseSum(shares)
        val probabilities = labels.indices.associate { labels[it] to shares[it] / sum }
        return Prediction(labels[largest(logits)], probabilities)
    }

    /** Claims a spare row of the head for a new label. */
    fun addLabel(name: String) {
        val task = manifest.task
        if (name in labels) throw DataError("label '$name' exists already")
        if (labels.size == task.labels.size + task.spareLabels) {
            throw DataError("no spare row left for label '$name'; export again with --spare-labels")
        }
        labels = labels + name
        switchOn(labels.size - 1)
    }

    private fun switchOn(row: Int) {
        state["head.bias"].floats().put(row, 0f)
    }
}
