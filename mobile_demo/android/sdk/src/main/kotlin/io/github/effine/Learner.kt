package io.github.effine

import kotlin.math.exp
import kotlin.math.tanh

/**
 * A label with the probabilities of all labels, a score, or several labels.
 *
 * @property labels for several labels those whose probability is above one half; [label] is then null.
 */
class Prediction internal constructor(
    val label: String?,
    val probabilities: Map<String, Double>,
    val score: Double? = null,
    val labels: List<String>? = null,
)

/** Moves tensors between features, state and programs; knows no method. */
internal class Learner(private val artifact: Artifact, private val engine: Engine) {
    private val manifest = artifact.manifest
    private val features = FeatureSource(manifest, engine)
    private val buffers = Buffers()

    /** Where an update of the state goes; what only predicts needs no such place. */
    private lateinit var next: Lazy<State>

    /** Sums of gradients, and where the next ones go. */
    private lateinit var gradients: Lazy<Pair<Tensors, Tensors>>

    @Volatile
    var labels = manifest.task.labels
        private set
    var phase = manifest.firstPhase
        private set
    lateinit var state: State
        private set

    init {
        take(phase, artifact.initialState())
    }

    /** Goes on from this state of this phase. */
    private fun take(phase: String, state: State) {
        this.phase = phase
        this.state = state
        next = lazy { State.zeros(manifest.updated(phase)) }
        gradients = lazy { manifest.zeroGradients(phase) to manifest.zeroGradients(phase) }
        features.enter(phase, state)
    }

    /** The tensors of the state in the present phase. */
    val layout: List<StateTensor> get() = manifest.layout(phase)

    /** Goes back to the initial state; labels added on the device stay. */
    fun reset() {
        take(manifest.firstPhase, artifact.initialState())
        for (row in manifest.task.labels.size until labels.size) switchOn(row)
    }

    /** Goes back to the first phase and forgets the moments, keeps the parameters. */
    fun restart() {
        if (phase != manifest.firstPhase) enter(manifest.firstPhase, emptyMap())
        state.zeroMoments(layout)
    }

    /** Goes to a phase, which may be the present one, with the rows that it takes. */
    fun enter(target: String, indices: Indices): Transition {
        val transition = manifest.transition(phase, target)
        take(target, State(transition.moved(manifest.layout(target), state.tensors, indices)))
        return transition
    }

    fun restore(phase: String, state: State, labels: List<String>) {
        take(phase, state)
        this.labels = labels
    }

    /**
     * Trains on one batch, or on the sum of the gradients of several.
     *
     * @param samples of at most [accumulate] batches.
     * @param rates the learning rate of each parameter group.
     * @param step updates since the moments were zero, this one included.
     * @return the loss, or null if it or the new state isn't finite; the state is then the old one.
     */
    fun update(data: Dataset, samples: List<Int>, rates: Map<String, Float>, step: Int, accumulate: Int): Double? {
        val weights = data.weights(samples).copyOf(accumulate * manifest.batch)
        val scalars = rates.mapKeys { "learning_rate.${it.key}" } +
            mapOf("weight_sum" to pairwiseSum(weights), "step" to step.toFloat())
        val one = accumulate == 1
        val method = if (one) manifest.trainMethod(longest(data, samples), phase) else manifest.applyMethod(phase)
        val loss =
            if (one) train(method, data, samples, scalars, emptyMap(), next.value.tensors) else accumulated(data, samples, scalars)
        if (!loss.isFinite() || !next.value.isFinite()) return null
        state.exchange(next.value, method)
        return loss
    }

    /** Sums up the batches' losses, in binary64, and gradients, then applies them. */
    private fun accumulated(data: Dataset, samples: List<Int>, scalars: Map<String, Float>): Double {
        var (sums, following) = gradients.value
        sums.values.forEach { it.zero() }
        var loss = 0.0
        for (batch in samples.chunked(manifest.batch)) {
            val method = manifest.accumulateMethod(longest(data, batch), phase)
            loss += train(method, data, batch, scalars, sums, following)
            sums = following.also { following = sums }
        }
        val apply = manifest.applyMethod(phase)
        engine.run(
            apply,
            { sums[it.name] ?: state.tensors[it.name] ?: scalar(apply, it, scalars) },
            { next.value.tensors[it.name] ?: buffers.of(apply, it) },
        )
        return loss
    }

    /** Runs [method] on a batch and returns its loss; [given] are further inputs, [into] takes outputs. */
    private fun train(
        method: ProgramMethod,
        data: Dataset,
        samples: List<Int>,
        scalars: Map<String, Float>,
        given: Tensors,
        into: Tensors,
    ): Double {
        val tokens = samples.map { data.tokens[it] }
        val inputs = given + features.batch(tokens, manifest.batch, longest(data, samples))
        fun input(spec: TensorSpec): Tensor = inputs[spec.name] ?: state.tensors[spec.name] ?: when (spec.name) {
            "labels" -> buffers.of(method, spec).also { data.putTargets(samples, it) }
            "example_weight" ->
                buffers.of(method, spec).also { it.floats().put(data.weights(samples).copyOf(manifest.batch)) }
            else -> scalar(method, spec, scalars)
        }
        engine.run(method, ::input) { into[it.name] ?: buffers.of(method, it) }
        return buffers.of(method, method.outputs.first { it.role == "loss" }).floats().get(0).toDouble()
    }

    private fun scalar(method: ProgramMethod, spec: TensorSpec, scalars: Map<String, Float>): Tensor {
        val value = scalars[spec.name]
            ?: throw EngineError("${method.name}: input ${spec.name} is unknown to this version; update effine")
        return buffers.of(method, spec).also { it.floats().put(value) }
    }

    private fun longest(data: Dataset, samples: List<Int>): Int = samples.maxOf { data.seqs[it] }

    /** Logits of [labels] for every sample, computed in batches of similar length. */
    fun logits(data: Dataset, labels: List<String> = this.labels): List<FloatArray> {
        val batch = if (data.size == 1) 1 else manifest.batch
        val rows = arrayOfNulls<FloatArray>(data.size)
        for (samples in data.seqs.indices.sortedBy { data.seqs[it] }.chunked(batch)) {
            val seq = longest(data, samples)
            val method = manifest.predictMethod(batch, seq, phase)
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

    /** Metrics on data that may have more labels than are in use. */
    fun metrics(data: Dataset): Map<String, Double> {
        val all = if (data.labels.size > labels.size) data.labels else labels
        return evaluate(manifest.task, logits(data, all), data.targets)
    }

    /** Turns one row of logits into a label with probabilities, a score, or several labels. */
    fun prediction(logits: FloatArray): Prediction {
        if (manifest.task.name == TaskInfo.REGRESSION) return Prediction(null, emptyMap(), logits[0].toDouble())
        if (manifest.task.name == TaskInfo.MULTILABEL) {
            val shares = labels.indices.associate { labels[it] to 0.5 + 0.5 * tanh(0.5 * logits[it]) }
            return Prediction(null, shares, labels = shares.filterValues { it > 0.5 }.keys.toList())
        }
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
