package org.pytorch.executorch.training

import java.io.Closeable
import org.pytorch.executorch.Bridge
import org.pytorch.executorch.EValue

/** Runs a program with one weight file or none; like the stock class it returns the "user outputs" alone. */
class TrainingModule private constructor(private val handle: Long) : Closeable {
    private var closed = false

    @Synchronized
    fun executeForwardBackward(methodName: String, vararg inputs: EValue): Array<EValue> {
        check(!closed) { "TrainingModule has been destroyed" }
        val tensors = inputs.map { it.toTensor() }
        return Bridge.execute(
            handle,
            methodName,
            tensors.map { it.getRawDataBuffer() }.toTypedArray(),
            tensors.map { it.shape() }.toTypedArray(),
            tensors.map { it.code }.toIntArray(),
        )
    }

    @Synchronized
    override fun close() {
        if (!closed) Bridge.close(handle)
        closed = true
    }

    companion object {
        @JvmStatic
        fun load(modelPath: String): TrainingModule = TrainingModule(Bridge.load(modelPath, null))

        @JvmStatic
        fun load(modelPath: String, dataPath: String): TrainingModule =
            TrainingModule(Bridge.load(modelPath, dataPath))
    }
}
