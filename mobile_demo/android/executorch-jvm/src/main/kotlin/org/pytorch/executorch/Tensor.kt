package org.pytorch.executorch

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer

/** The dtypes that effine's programs use, with ExecuTorch's code for each. */
enum class DType(internal val code: Int) {
    INT64(4),
    FLOAT(6),
}

/** A tensor over a direct buffer of native byte order, which isn't copied. */
class Tensor private constructor(
    private val type: DType,
    private val data: Buffer,
    shape: LongArray,
) {
    private val sizes = shape.copyOf()
    internal val code get() = type.code

    init {
        require(data.isDirect) { "Data buffer must be direct" }
        require(data.capacity().toLong() == shape.fold(1L, Long::times)) { "Inconsistent data capacity and shape" }
    }

    fun dtype(): DType = type

    fun shape(): LongArray = sizes.copyOf()

    fun getRawDataBuffer(): Buffer = data

    fun copyDataInto(dst: FloatBuffer) {
        check(type == DType.FLOAT) { "Tensor of type $type cannot copy data into FloatBuffer." }
        dst.put((data as FloatBuffer).duplicate().rewind() as FloatBuffer)
    }

    companion object {
        @JvmStatic
        fun fromBlob(data: FloatBuffer, shape: LongArray): Tensor {
            require(data.order() == ByteOrder.nativeOrder()) { "Data buffer must have native byte order" }
            return Tensor(DType.FLOAT, data, shape)
        }

        @JvmStatic
        fun fromBlob(data: LongBuffer, shape: LongArray): Tensor {
            require(data.order() == ByteOrder.nativeOrder()) { "Data buffer must have native byte order" }
            return Tensor(DType.INT64, data, shape)
        }

        /** Wraps what the bridge found in the runtime's memory. */
        internal fun over(memory: ByteBuffer, shape: LongArray, code: Int): Tensor {
            memory.order(ByteOrder.nativeOrder())
            return when (DType.entries.single { it.code == code }) {
                DType.FLOAT -> fromBlob(memory.asFloatBuffer(), shape)
                DType.INT64 -> fromBlob(memory.asLongBuffer(), shape)
            }
        }
    }
}
