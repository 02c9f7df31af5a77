package io.github.effine

import java.io.File

private const val STEPS = 20
private const val DECAY = "decay."

/**
 * Replays an artifact's golden run.
 *
 * @property through a file through which the state goes half-way, as after a restart; null for a run
 *   in one piece.
 */
internal class Replay(private val artifact: Artifact, private val engine: Engine, private val through: File? = null) {
    private val manifest = artifact.manifest
    private val golden = artifact.golden()
    private val result = LinkedHashMap<String, Tensor>()
    private val outputs = Buffers()

    /** features., logits, loss, gradient., end. and decay. as `effine parity` compares them. */
    fun run(): Tensors {
        var state = start()
        var next = State.zeros(manifest)
        val losses = FloatArray(STEPS)
        for (i in 0 until STEPS) {
            losses[i] = step(i, i + 1, emptyMap(), state, next)
            if (i == 0) recordFirst(state, next)
            state = next.also { next = state }
            if (through != null && i + 1 == STEPS / 2) {
                TensorFile(state.tensors, mapOf("format" to "effine state")).write(through)
                state = State.of(manifest, TensorFile.read(through).tensors)
            }
        }
        result["loss"] = Tensor.floats(listOf(STEPS), losses)
        record("end.", state)
        decay(next)
        record(DECAY, next)
        return result
    }

    private fun golden(name: String): Tensor = golden[name] ?: throw ArtifactError(
        "${artifact.folder}: the golden run needs $name, which isn't recorded; export the artifact again",
    )

    private fun start(): State {
        val state = State.zeros(manifest)
        for ((name, tensor) in state.tensors) golden["start.$name"]?.let { tensor.copyFrom(it) }
        return state
    }

    /** Runs backbone and train on golden batch [i]; tensors in [given] replace those of the batch. */
    private fun step(i: Int, count: Int, given: Tensors, state: State, next: State): Float {
        val features = features(i)
        val method = manifest.trainMethod(seq(i))
        val inputs = features + mapOf("step" to Tensor.scalar(count.toFloat())) + given
        engine.run(
            method,
            { inputs[it.name] ?: state.tensors[it.name] ?: golden("batch.$i.${it.name}") },
            { next.tensors[it.name] ?: outputs.of(method, it) },
        )
        return outputs.of(method, method.outputs.first { it.role == "loss" }).floats().get(0)
    }

    private fun features(i: Int): Tensors {
        val method = manifest.backboneMethod(manifest.batch, seq(i))
        engine.run(method, { golden("batch.$i.${it.name}") }, { outputs.of(method, it) })
        return method.outputs.associate { it.name to outputs.of(method, it) }
    }

    private fun seq(i: Int): Int = golden("batch.$i.$INPUT_IDS").shape[1]

    private fun recordFirst(state: State, next: State) {
        val features = features(0)
        for ((name, tensor) in features) result["features.$name"] = tensor.copy()
        val method = manifest.predictMethod(manifest.batch, seq(0))
        engine.run(
            method,
            { features[it.name] ?: state.tensors[it.name] ?: golden("batch.0.${it.name}") },
            { outputs.of(method, it) },
        )
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
