package io.github.effine

import java.io.File

/** Where a replay stands; [count] has the updates since the moments were zero. */
private class Moment(val phase: String, val state: State, var count: Int)

/**
 * Replays an artifact's golden run, which goes through all phases.
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
    private val file = artifact.golden()
    private val golden = file.tensors
    private val steps = golden("loss").shape[0]
    private val turns = turns(file.metadata["phases"] ?: "{}")
    private val result = LinkedHashMap<String, Tensor>()
    private val outputs = Buffers()
    private var next = "" to State(LinkedHashMap())

    /**
     * features., logits, loss, gradient., end., statistic., decay. and at.{phase}. as `effine parity`
     * compares them.
     */
    fun run(): Tensors {
        var at = start()
        val seen = HashSet<String>()
        val losses = FloatArray(steps)
        for (i in 0 until steps) {
            turns[i]?.let { at = entered(it, i, at) }
            val first = seen.add(at.phase)
            if (first) recordOutputs(i, at)
            losses[i] = step(i, emptyMap(), at)
            if (first) recordGradients(at)
            if (through != null && i + 1 == steps / 2) at = throughFile(at, through)
        }
        result["loss"] = Tensor.floats(listOf(steps), losses)
        record("end.", StateTensor.PARAMETER, at)
        record("statistic.", StateTensor.STATISTIC, at)
        decay()
        return result
    }

    /** The phases that the run goes to, by the step before which it does. */
    private fun turns(json: String): Map<Int, String> =
        Place(Json.parse(json), "phases").table().entries.associate { (step, phase) -> step.toInt() to phase.string() }

    private fun golden(name: String): Tensor = golden[name] ?: throw ArtifactError(
        "${artifact.folder}: the golden run needs $name, which isn't recorded; export the artifact again",
    )

    /** The parameters that the run starts with; those that it doesn't give are the initial ones. */
    private fun start(): Moment {
        val state = artifact.initialState()
        for ((name, tensor) in state.tensors) golden["start.$name"]?.let { tensor.copyFrom(it) }
        return Moment(manifest.firstPhase, state, 0)
    }

    private fun entered(phase: String, i: Int, at: Moment): Moment {
        val prefix = "indices.$i."
        val indices = golden.filterKeys { it.startsWith(prefix) }.entries.associate { (name, tensor) ->
            val values = tensor.longs()
            name.removePrefix(prefix) to List(tensor.count) { values.get(it).toInt() }
        }
        val transition = manifest.transition(at.phase, phase)
        val state = transition.moved(manifest.layout(phase), at.state.tensors, indices)
        return Moment(phase, State(state), if (transition.restarts) 0 else at.count)
    }

    private fun throughFile(at: Moment, file: File): Moment {
        TensorFile(at.state.tensors, mapOf("format" to "effine state")).write(file)
        return Moment(at.phase, State.of(manifest.layout(at.phase), TensorFile.read(file).tensors), at.count)
    }

    /** Takes a step on golden batch [i] and returns its loss; tensors in [given] replace those of the batch. */
    private fun step(i: Int, given: Tensors, at: Moment): Float {
        if (next.first != at.phase) next = at.phase to State.zeros(manifest.updated(at.phase))
        val into = next.second
        val inputs = at.state.tensors + features(i, at) + mapOf("step" to Tensor.scalar(at.count + 1f)) + given
        val method = if (accumulated) manifest.applyMethod(at.phase) else manifest.trainMethod(seq(i), at.phase)
        val loss = if (accumulated) {
            val (sums, loss) = accumulate(i, inputs, at.phase)
            run(method, i, inputs + sums, into.tensors)
            loss
        } else {
            run(method, i, inputs, into.tensors)
            loss(method)
        }
        at.state.exchange(into, method)
        at.count++
        return loss
    }

    private fun accumulate(i: Int, inputs: Tensors, phase: String): Pair<Tensors, Float> {
        val method = manifest.accumulateMethod(seq(i), phase)
        val weights = inputs["example_weight"] ?: golden("batch.$i.example_weight")
        var (sums, following) = manifest.zeroGradients(phase) to manifest.zeroGradients(phase)
        var loss = 0f
        for (row in 0..1) {
            val half = weights.copy()
            for (other in 1 - row until half.count step 2) half.floats().put(other, 0f)
            run(method, i, inputs + sums + ("example_weight" to half), following)
            loss += loss(method)
            sums = following.also { following = sums }
        }
        return sums to loss
    }

    private fun run(method: ProgramMethod, i: Int, inputs: Tensors, into: Tensors) = engine.run(
        method,
        { inputs[it.name] ?: golden("batch.$i.${it.name}") },
        { into[it.name] ?: outputs.of(method, it) },
    )

    private fun loss(method: ProgramMethod): Float =
        outputs.of(method, method.outputs.first { it.role == "loss" }).floats().get(0)

    /** What the backbone computes; nothing where the token inputs are the features. */
    private fun features(i: Int, at: Moment): Tensors {
        if (!manifest.hasBackbone) return emptyMap()
        val method = manifest.backboneMethod(manifest.batch, seq(i), at.phase)
        run(method, i, at.state.tensors, emptyMap())
        return method.outputs.associate { it.name to outputs.of(method, it) }
    }

    private fun seq(i: Int): Int = golden("batch.$i.$INPUT_IDS").shape[1]

    private fun prefix(phase: String): String = if (phase == manifest.firstPhase) "" else "at.$phase."

    private fun recordOutputs(i: Int, at: Moment) {
        val prefix = prefix(at.phase)
        val features = features(i, at)
        val names = if (manifest.hasBackbone) features.keys else manifest.tokens.inputs - ATTENTION_MASK
        for (name in names) result["${prefix}features.$name"] = (features[name] ?: golden("batch.$i.$name")).copy()
        val method = manifest.predictMethod(manifest.batch, seq(i), at.phase)
        run(method, i, at.state.tensors + features, emptyMap())
        result["${prefix}logits"] = outputs.of(method, method.outputs.first { it.role == "logits" }).copy()
    }

    /** Gradients of the first step, read from the first moments, which started at zero. */
    private fun recordGradients(at: Moment) {
        val optimizer = manifest.optimizer
        for (entry in manifest.state) {
            val gradient = at.state.tensors["${entry.name}.${optimizer.firstMoment}"]?.copy() ?: continue
            val values = gradient.floats()
            for (k in 0 until gradient.count) values.put(k, values.get(k) * optimizer.firstGradientFactor)
            result["${prefix(at.phase)}gradient.${entry.name}"] = gradient
        }
    }

    private fun record(prefix: String, role: String, at: Moment) {
        for (entry in manifest.layout(at.phase)) {
            if (entry.role == role) result[prefix + entry.name] = at.state[entry.name].copy()
        }
    }

    /** An update in which every example weighs nothing: only weight decay acts. */
    private fun decay() {
        val rates = manifest.trainMethod(seq(0)).inputs.filter { it.name.startsWith("learning_rate.") }
        val given = rates.associate { it.name to golden("decay_rate") } + mapOf(
            "example_weight" to Tensor(DType.F32, golden("batch.0.example_weight").shape),
            "weight_sum" to Tensor.scalar(1f),
        )
        val at = start()
        step(0, given, at)
        record("decay.", StateTensor.PARAMETER, at)
    }
}
