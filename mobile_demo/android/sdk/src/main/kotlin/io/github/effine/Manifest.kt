package io.github.effine

/** An input or output of a program method. */
class TensorSpec internal constructor(val name: String, val role: String, val dtype: DType, val shape: List<Int>) {
    /** Whether a feature, [B, S, d] or [B, d], has a row for each token rather than for each sample. */
    internal val perToken: Boolean get() = shape.size == 3

    internal companion object {
        const val READ = "read"
        const val UPDATE = "update"
        const val FEATURE = "feature"
        const val GRADIENT = "gradient"
    }
}

/** Inputs and outputs of a program method, in the program's order; [file] is the program. */
class ProgramMethod internal constructor(
    val name: String,
    val file: String,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
)

/** A tensor of the state; its order in the manifest is its order in files. */
class StateTensor internal constructor(val name: String, val shape: List<Int>, val role: String) {
    val isParameter: Boolean get() = role == PARAMETER

    internal companion object {
        const val PARAMETER = "parameter"
        const val MOMENT = "moment"
    }
}

/** What is learned: labels in head order, and rows of the head kept for more. */
class TaskInfo internal constructor(
    val name: String,
    val labels: List<String>,
    val spareLabels: Int,
    val pair: Boolean,
) {
    /** Rows of the head, one for each label that there is or that can be added. */
    internal val rows: Int get() = labels.size + spareLabels

    internal companion object {
        const val CLASSIFICATION = "classification"
        const val MULTILABEL = "multilabel"
        const val REGRESSION = "regression"
    }
}

/** Token inputs in program order. */
class TokensInfo internal constructor(val inputs: List<String>, val padId: Int, val maxLength: Int)

/** The first of the moments after a first step from zero, times the factor, is that step's gradient. */
internal class OptimizerInfo(val firstMoment: String, val firstGradientFactor: Float)

/**
 * Memory of a training run in bytes, for the largest batch.
 *
 * @property activations alive within a step.
 * @property weights the frozen ones that are packed.
 * @property state parameters and moments.
 * @property features those of a batch.
 * @property peak the predicted largest resident size of the C++ runner.
 */
class MemoryInfo internal constructor(
    val activations: Int,
    val weights: Int,
    val state: Int,
    val features: Int,
    val peak: Int,
)

/** The score of a linear head on the frozen encoder, measured at export. */
class FrozenHead internal constructor(val score: Double, val metric: String, val data: String)

/** Size in bytes and SHA-256 of a file. */
internal class FileEntry(val size: Long, val sha256: String)

/** Everything a host needs to know of an artifact. */
class Manifest internal constructor(
    val name: String,
    val effine: String,
    val executorch: String,
    /** The tuning method, such as `adapter`. */
    val method: String,
    /** How many encoder layers the backbone program has. */
    val layersBelow: Int,
    val task: TaskInfo,
    val tokens: TokensInfo,
    /** Samples in a training batch. */
    val batch: Int,
    /** The exported sequence lengths, ascending. */
    val seqs: List<Int>,
    val state: List<StateTensor>,
    val stateId: String,
    val memory: MemoryInfo,
    val frozenHead: FrozenHead?,
    /** Of the manifest itself. */
    val sha256: String,
    internal val optimizer: OptimizerInfo,
    internal val recipe: Json.Table,
    internal val identity: Json.Table,
    internal val files: Map<String, FileEntry>,
    private val methods: Map<String, ProgramMethod>,
) {
    /** The state's tensors that are trained, without moments. */
    val parameters: List<StateTensor> = state.filter { it.isParameter }

    /** A program method by its name; throws [ArtifactError] if there is none. */
    fun method(name: String): ProgramMethod =
        methods[name] ?: throw ArtifactError("artifact '${this.name}' has no program method '$name'")

    /** The smallest exported sequence length that holds [length] tokens. */
    fun seqFor(length: Int): Int = seqs.firstOrNull { it >= length }
        ?: throw DataError("$length tokens exceed the longest exported sequence, ${seqs.last()}")

    /** The train method for features of sequence length [seq]. */
    fun trainMethod(seq: Int): ProgramMethod = atLeast("train", batch, seq)

    /** Whether gradients of several batches can be summed up for one update. */
    internal val accumulates: Boolean = methods.keys.any { it.startsWith("accumulate_") }

    /** The method that adds gradients to their sums, for features of sequence length [seq]. */
    internal fun accumulateMethod(seq: Int): ProgramMethod = atLeast("accumulate", batch, seq)

    /** The method that updates the state from gradient sums. */
    internal fun applyMethod(): ProgramMethod = atLeast("apply", batch, 1)

    /** Gradient sums of zero. */
    internal fun zeroGradients(): Tensors = applyMethod().inputs.filter { it.role == TensorSpec.GRADIENT }
        .associate { it.name to Tensor(it.dtype, it.shape) }

    /** The predict method for a batch of features of sequence length [seq]. */
    fun predictMethod(batch: Int, seq: Int): ProgramMethod = atLeast("predict", batch, seq)

    /** The backbone method for exactly this shape. */
    fun backboneMethod(batch: Int, seq: Int): ProgramMethod = method("backbone_b${batch}_s$seq")

    private fun atLeast(phase: String, batch: Int, seq: Int): ProgramMethod =
        seqs.filter { it >= seq }.firstNotNullOfOrNull { methods["${phase}_b${batch}_s$it"] }
            ?: throw ArtifactError("artifact '$name' has no $phase method for batch $batch and $seq tokens")
}
