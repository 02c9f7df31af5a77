package io.github.effine

internal const val INPUT_IDS = "input_ids"
internal const val TOKEN_TYPE_IDS = "token_type_ids"
internal const val ATTENTION_MASK = "attention_mask"

/** Tensors that are allocated once for each program method and name, and used again by every call. */
internal class Buffers {
    private val tensors = HashMap<String, Tensor>()

    fun of(method: ProgramMethod, spec: TensorSpec): Tensor =
        tensors.getOrPut("${method.name} ${spec.name}") { Tensor(spec.dtype, spec.shape) }
}

/**
 * Features of a batch from the backbone program; without one they are the token inputs.
 *
 * Where encoder layers lie below the cut, a sample's features are always computed alone and at the
 * smallest shape that fits it, with zeros at padding, so that a cached and a recomputed run agree bit
 * for bit. Otherwise (embedding sums) the whole batch is computed.
 */
internal class FeatureSource(private val manifest: Manifest, private val engine: Engine) {
    private val buffers = Buffers()
    private var phase = manifest.firstPhase
    private var held = emptyMap<String, Tensor>()

    /** Computes the features of a phase from now on; its backbone may read the state. */
    fun enter(phase: String, state: State) {
        this.phase = phase
        held = state.tensors
    }

    /** Features and mask of some samples, padded to [batch] rows of [seq] tokens, until the next call. */
    fun batch(samples: List<Tokens>, batch: Int, seq: Int): Tensors {
        val declares = if (manifest.hasBackbone) manifest::backboneMethod else manifest::predictMethod
        val method = declares(batch, seq, phase)
        val tokens = tokens(method, samples)
        if (!manifest.hasBackbone) return tokens
        val features =
            if (manifest.layersBelow(phase) == 0) compute(method, tokens) else gathered(method, samples)
        return features + (ATTENTION_MASK to tokens.getValue(ATTENTION_MASK))
    }

    private fun gathered(method: ProgramMethod, samples: List<Tokens>): Tensors {
        val gathered = method.outputs.associate { it.name to buffers.of(method, it) }
        gathered.values.forEach { it.zero() }
        samples.forEachIndexed { row, sample ->
            val alone = alone(sample)
            for (spec in method.outputs) {
                val rows = if (spec.perToken) sample.ids.size else 1
                copyRow(alone.getValue(spec.name), gathered.getValue(spec.name), row, rows * spec.shape.last())
            }
        }
        return gathered
    }

    private fun alone(sample: Tokens): Tensors {
        val method = manifest.backboneMethod(1, manifest.seqFor(sample.ids.size), phase)
        return compute(method, tokens(method, listOf(sample)))
    }

    private fun compute(method: ProgramMethod, tokens: Tensors): Tensors {
        val features = method.outputs.associate { it.name to buffers.of(method, it) }
        engine.run(method, { tokens[it.name] ?: held.getValue(it.name) }, { features.getValue(it.name) })
        return features
    }

    /** Token inputs; rows beyond the samples have one token of padding unmasked, so that no mean is empty. */
    private fun tokens(method: ProgramMethod, samples: List<Tokens>): Tensors {
        val inputs = method.inputs.filter { it.name in manifest.tokens.inputs }
            .associate { it.name to buffers.of(method, it) }
        for ((name, tensor) in inputs) {
            val (rows, columns) = tensor.shape
            val values = tensor.longs()
            for (row in 0 until rows) {
                val sample = samples.getOrNull(row)
                for (column in 0 until columns) values.put(row * columns + column, value(name, sample, column))
            }
        }
        return inputs
    }

    private fun value(input: String, sample: Tokens?, column: Int): Long {
        val inside = column < (sample?.ids?.size ?: 0)
        return when (input) {
            INPUT_IDS -> if (inside) sample!!.ids[column] else manifest.tokens.padId
            TOKEN_TYPE_IDS -> if (inside) sample!!.typeIds[column] else 0
            else -> if (inside || (sample == null && column == 0)) 1 else 0
        }.toLong()
    }
}

/** Copies the first [size] elements of [from] to where a row of [to] begins. */
private fun copyRow(from: Tensor, to: Tensor, row: Int, size: Int) {
    val (source, target) = from.floats() to to.floats()
    source.limit(size)
    target.position(row * (to.count / to.shape[0]))
    target.put(source)
}
