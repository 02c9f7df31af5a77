package io.github.effine

import java.io.Closeable
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.pytorch.executorch.DType as RuntimeDType
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor as RuntimeTensor
import org.pytorch.executorch.training.TrainingModule

/**
 * Executes an artifact's programs with the stock runtime.
 *
 * Its `Module` takes no weight file, so every program, predicting ones included, runs in a
 * `TrainingModule`. A method is loaded when it first runs; the class can't unload one again.
 *
 * @param threads size of ExecuTorch's process-wide thread pool, by default its own choice.
 */
internal open class Engine(private val artifact: Artifact, threads: Int?) : Closeable {
    private val modules = HashMap<String, TrainingModule>()
    private val part = IntArray(Tensor.PART)

    init {
        // The pool can be sized only by loading a program; this one's methods stay unloaded.
        if (threads != null) {
            val any = artifact.manifest.trainMethod(artifact.manifest.seqs.first()).file
            Module.load(artifact.file(any).path, Module.LOAD_MODE_MMAP, threads).close()
        }
    }

    /**
     * Runs a method and copies its outputs.
     *
     * @param input supplies the tensor for a declared input.
     * @param output supplies where a declared output goes; it isn't an input of the same call.
     * @return whether what it made of the state is finite; each tensor is looked at while the cache holds it.
     */
    fun run(method: ProgramMethod, input: (TensorSpec) -> Tensor, output: (TensorSpec) -> Tensor): Boolean {
        val inputs = Array(method.inputs.size) { wrapped(method, method.inputs[it], input(method.inputs[it])) }
        val results = try {
            execute(module(method), method, inputs)
        } catch (error: RuntimeException) {
            throw EngineError("${artifact.folder}/${method.file}: ${method.name} failed: ${error.message}", error)
        }
        if (results.size != method.outputs.size) {
            throw EngineError("${method.name}: ${results.size} outputs, the manifest says ${method.outputs.size}")
        }
        var finite = true
        method.outputs.forEachIndexed { index, spec ->
            val tensor = output(spec)
            take(method, spec, results[index], tensor)
            finite = finite && (!spec.isState || tensor.isFinite(part))
        }
        return finite
    }

    /** Calls the runtime; the results are good until the module's next call. */
    protected open fun execute(module: TrainingModule, method: ProgramMethod, inputs: Array<EValue>): Array<EValue> =
        module.executeForwardBackward(method.name, *inputs)

    override fun close() {
        modules.values.forEach { it.close() }
        modules.clear()
    }

    private fun module(method: ProgramMethod): TrainingModule = modules.getOrPut(method.file) {
        val program = artifact.file(method.file).path
        // Without a backbone nothing is frozen, and a file without weights is refused.
        if (artifact.manifest.hasBackbone) TrainingModule.load(program, artifact.weights.path) else TrainingModule.load(program)
    }

    /** A view of the tensor for the runtime; a wrong shape could abort inside it. */
    private fun wrapped(method: ProgramMethod, spec: TensorSpec, tensor: Tensor): EValue {
        if (tensor.dtype != spec.dtype || tensor.shape != spec.shape) {
            mismatch(method, spec, describe(tensor.dtype, tensor.shape))
        }
        val shape = LongArray(spec.shape.size) { spec.shape[it].toLong() }
        val buffer = if (spec.dtype == DType.I64) tensor.longs() else tensor.floats()
        return EValue.from(
            when (buffer) {
                is LongBuffer -> RuntimeTensor.fromBlob(buffer, shape)
                is FloatBuffer -> RuntimeTensor.fromBlob(buffer, shape)
                else -> mismatch(method, spec, "of a dtype that programs don't take")
            },
        )
    }

    private fun take(method: ProgramMethod, spec: TensorSpec, result: EValue, output: Tensor) {
        if (!result.isTensor()) mismatch(method, spec, "not a tensor")
        val tensor = result.toTensor()
        val shape = tensor.shape().map { it.toInt() }
        if (tensor.dtype() != RuntimeDType.FLOAT || shape != spec.shape || shape != output.shape) {
            mismatch(method, spec, "${tensor.dtype()}$shape")
        }
        tensor.copyDataInto(output.floats())
    }

    private fun mismatch(method: ProgramMethod, spec: TensorSpec, found: String): Nothing = throw EngineError(
        "${method.name}: ${spec.name} is $found, the manifest says ${describe(spec.dtype, spec.shape)}; export again",
    )
}
