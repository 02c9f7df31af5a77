package io.github.effine

import java.io.File

private const val DECAY = "decay."

/**
 * Replays an artifact's golden run.
 *
 * @property through a file through which the state goes half-way, as after a restart; null for a run
 *   in one piece.
 * @property accumulated take each step as two, with the gradients of every other row, and apply their sums.
 */
internal class Replay(
    private val artifact: Artifact,
    private val engine: Engine,
    private val through: File? = null,
    private val accumulated: Boolean = false,
) {
    private val manifest = artifact.manifest
    private val golden = artifact.golden()
    private val steps = golden("loss").shape[0]
    private val result = LinkedHashMap<String, Tensor>()
    private val outputs = Buffers()

    /** features., logits, loss, gradient., end. and decay. as `effine parity` compares them. */
    fun run(): Tensors {
        var state = start()
        var next = State.zeros(manifest)
        val losses = FloatArray(steps)
        for (i in 0 until steps) {
            losses[i] = step(i, i + 1, emptyMap(), state, next)
            if (i == 0) recordFirst(state, next)
            state = next.also { next = state }
            if (through != null && i + 1 == steps / 2) {
                TensorFile(state.tensors, mapOf("format" to "effine state")).write(through)
                state = State.of(manifest, TensorFile.read(through).tensors)
            }
        }
        result["loss"] = Tensor.floats(listOf(steps), losses)
        record("end.", state)
        decay(next)
        record(DECAY, next)
        return result
    }

    private fun golden(name: String): Tensor = golden[name] ?: throw ArtifactError(
        "${artifact.folder}: the golden run needs $name, which isn't recorded; export the artifact again",
    )

    /** The parameters that the run starts with; those that it doesn't give are the initial ones. */
    private fun start(): State {
        val state = artifact.initialState()
        for ((name, tensor) in state.tensors) golden["start.$name"]?.let { tensor.copyFrom(it) }
        return state
    }

    /** Takes a step on golden batch [i] and returns its loss; tensors in [given] replace those of the batch. */
    private fun step(i: Int, count: Int, given: Tensors, state: State, next: State): Float {
        val inputs = state.tensors + features(i) + mapOf("step" to Tensor.scalar(count.toFloat())) + given
        if (accumulated) return accumulate(i, inputs, next)
        val method = manifest.trainMethod(seq(i))
        run(method, i, inputs, next.tensors)
        return loss(method)
    }

    private fun accumulate(i: Int, inputs: Tensors, next: State): Float {
        val method = manifest.accumulateMethod(seq(i))
        val weights = inputs["example_weight"] ?: golden("batch.$i.example_weight")
        var (sums, following) = manifest.zeroGradients() to manifest.zeroGradients()
        var loss = 0f
        for (row in 0..1) {
            val half = weights.copy()
            for (other in 1 - row until half.count step 2) half.floats().put(other, 0f)
            run(method, i, inputs + sums + ("example_weight" to half), following)
            loss += loss(method)
            sums = following.also { following = sums }
        }
        run(manifest.applyMethod(), i, inputs + sums, next.tensors)
        return loss
    }

    private fun run(method: ProgramMethod, i: Int, inputs: Tensors, into: Tensors) = engine.run(
        method,
        { inputs[it.name] ?: golden("batch.$i.${it.name}") },
        { into[it.name] ?: outputs.of(method, it) },
    )

    private fun loss(method: ProgramMethod): Float =
        outputs.of(method, method.outputs.first { it.role == "loss" }).floats().get(0)

    private fun features(i: Int): Tensors {
        val method = manifest.backboneMethod(manifest.batch, seq(i))
        run(method, i, emptyMap(), emptyMap())
        return method.outputs.associate { it.name to outputs.of(method, it) }
    }

    private fun seq(i: Int): Int = golden("batch.$i.$INPUT_IDS").shape[1]

    private fun recordFirst(state: State, next: State) {
        val features = features(0)
        for ((name, tensor) in features) result["features.$name"] = tensor.copy()
        val method = manifest.predictMethod(manifest.batch, seq(0))
        run(method, 0, state.tensors + features, emptyMap())
        result["logits"] = outputs.of(method, method.outputs.first { it.role == "logits" }).copy()
        val optimizer = manifest.optimizer
        for (entry in manifest.parameters) {
            val gradient = next["${entry.name}.${optimizer.firstMoment}"].copy()
            val values = gradient.floats()
            for (k in 0 until gradient.count) values.put(k, values.get(k) * optimizer.firstGradientFactor)
            result["gradient.${entry.name}"] = gradient
        }
    }

    private fun record(prefix: String, state: State) {
        for (entry in manifest.parameters) result[prefix + entry.name] = state[entry.name].copy()
    }

    /** An update in which every example weighs nothing: only weight decay acts. */
    private fun decay(next: State) {
        val rates = manifest.trainMethod(seq(0)).inputs.filter { it.name.startsWith("learning_rate.") }
        val given = rates.associate { it.name to golden("decay_rate") } + mapOf(
            "example_weight" to Tensor(DType.F32, golden("batch.0.example_weight").shape),
            "weight_sum" to Tensor.scalar(1f),
        )
        step(0, 1, given, start(), next)
    }
}
