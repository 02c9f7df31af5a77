package io.github.effine

/** An input or output of a program method. */
class TensorSpec internal constructor(val name: String, val role: String, val dtype: DType, val shape: List<Int>) {
    /** Whether a feature, [B, S, d] or [B, d], has a row for each token rather than for each sample. */
    internal val perToken: Boolean get() = shape.size == 3

    /** Whether this is part of the state. */
    internal val isState: Boolean get() = role == READ || role == UPDATE || role == STATISTIC

    internal companion object {
        const val READ = "read"
        const val UPDATE = "update"
        const val STATISTIC = "statistic"
        const val TOKEN = "token"
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
class StateTensor internal constructor(
    val name: String,
    val shape: List<Int>,
    val role: String,
    internal val group: String,
) {
    val isParameter: Boolean get() = role == PARAMETER

    internal companion object {
        const val PARAMETER = "parameter"
        const val MOMENT = "moment"
        const val STATISTIC = "statistic"
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
    val recompute: Boolean,
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
    /** How many encoder layers the backbone program has, in the first phase. */
    val layersBelow: Int,
    /** The method's settings. */
    internal val options: Json.Table,
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
    /** Limits of parity with PyTorch, by name. */
    internal val tolerances: Map<String, Double>,
    internal val optimizer: OptimizerInfo,
    internal val recipe: Json.Table,
    internal val identity: Json.Table,
    internal val files: Map<String, FileEntry>,
    /** The phases of a method that has some, in order, with how many layers their backbone has. */
    internal val phases: Map<String, Int>,
    internal val transitions: List<Transition>,
    private val methods: Map<String, ProgramMethod>,
) {
    private val byPrefix = methods.values.groupBy { it.name.substringBefore('_') }

    /** The phase in which training starts. */
    internal val firstPhase: String = phases.keys.firstOrNull() ?: TRAIN

    /** Whether a program computes the features; otherwise they are the token inputs. */
    internal val hasBackbone: Boolean = byPrefix.keys.any { it.substringAfterLast('.') == BACKBONE }

    /** The tensors that are trained, without moments, as the first phase has them. */
    val parameters: List<StateTensor> = layout(firstPhase).filter { it.isParameter }

    /** The tensors of the state in a phase, in order. */
    internal fun layout(phase: String): List<StateTensor> {
        if (phases.isEmpty()) return state
        val used = (PARTS.map { part(it, phase) } + phase).flatMap { byPrefix[it].orEmpty() }
            .flatMap { method -> method.inputs.filter { it.isState }.map { it.name } }.toSet()
        return state.filter { it.name in used }
    }

    /** The tensors of the state that an update in a phase changes. */
    internal fun updated(phase: String): List<StateTensor> {
        val names = trainMethod(seqs.first(), phase).outputs.filter { it.isState }.map { it.name }.toSet()
        return state.filter { it.name in names }
    }

    internal fun layersBelow(phase: String): Int = phases[phase] ?: layersBelow

    /** How the state of one phase becomes that of another. */
    internal fun transition(source: String, target: String): Transition =
        transitions.firstOrNull { source in it.sources && target == it.target }
            ?: throw ArtifactError("artifact '$name' can't go from phase $source to $target")

    /** A program method by its name; throws [ArtifactError] if there is none. */
    fun method(name: String): ProgramMethod =
        methods[name] ?: throw ArtifactError("artifact '${this.name}' has no program method '$name'")

    /** The smallest exported sequence length that holds [length] tokens. */
    fun seqFor(length: Int): Int = seqs.firstOrNull { it >= length }
        ?: throw DataError("$length tokens exceed the longest exported sequence, ${seqs.last()}")

    /** The train method of a phase for features of sequence length [seq]. */
    fun trainMethod(seq: Int, phase: String = firstPhase): ProgramMethod = atLeast(phase, batch, seq)

    /** Whether gradients of several batches can be summed up for one update. */
    internal val accumulates: Boolean = ACCUMULATE in byPrefix

    /** The method that adds gradients to their sums, for features of sequence length [seq]. */
    internal fun accumulateMethod(seq: Int, phase: String = firstPhase): ProgramMethod =
        atLeast(part(ACCUMULATE, phase), batch, seq)

    /** The method that updates the state from gradient sums. */
    internal fun applyMethod(phase: String = firstPhase): ProgramMethod = atLeast(part(APPLY, phase), batch, 1)

    /** Gradient sums of zero. */
    internal fun zeroGradients(phase: String = firstPhase): Tensors =
        applyMethod(phase).inputs.filter { it.role == TensorSpec.GRADIENT }
            .associate { it.name to Tensor(it.dtype, it.shape) }

    /** The predict method for a batch of features of sequence length [seq]. */
    fun predictMethod(batch: Int, seq: Int, phase: String = firstPhase): ProgramMethod =
        atLeast(part(PREDICT, phase), batch, seq)

    /** The backbone method for exactly this shape. */
    fun backboneMethod(batch: Int, seq: Int, phase: String = firstPhase): ProgramMethod =
        method("${part(BACKBONE, phase)}_b${batch}_s$seq")

    /** What names of a kind's methods start with in a phase: its own, or those of the first phase. */
    private fun part(kind: String, phase: String): String = "$phase.$kind".takeIf { it in byPrefix } ?: kind

    private fun atLeast(prefix: String, batch: Int, seq: Int): ProgramMethod =
        seqs.filter { it >= seq }.firstNotNullOfOrNull { methods["${prefix}_b${batch}_s$it"] }
            ?: throw ArtifactError("artifact '$name' has no $prefix method for batch $batch and $seq tokens")

    internal companion object {
        const val TRAIN = "train"
        private const val BACKBONE = "backbone"
        private const val PREDICT = "predict"
        const val ACCUMULATE = "accumulate"
        private const val APPLY = "apply"
        private val PARTS = listOf(BACKBONE, PREDICT, ACCUMULATE, APPLY)
    }
}
