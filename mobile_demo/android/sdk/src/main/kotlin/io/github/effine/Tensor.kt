package io.github.effine

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer

/** Element types, with their names in tensor files and in manifests. */
enum class DType(internal val code: String, internal val label: String, internal val size: Int) {
    F32("F32", "float32", 4),
    F64("F64", "float64", 8),
    I64("I64", "int64", 8),
    I32("I32", "int32", 4),
    U8("U8", "uint8", 1),
}

/** Elements in direct memory of little-endian order, which ExecuTorch reads and writes in place. */
class Tensor private constructor(val dtype: DType, val shape: List<Int>, internal val data: ByteBuffer) {
    /** Zeros. */
    internal constructor(dtype: DType, shape: List<Int>) :
        this(dtype, shape, direct(elements(shape) * dtype.size))

    val count: Int get() = data.capacity() / dtype.size

    /** The elements of a float32 tensor; a new view of the same memory. */
    fun floats(): FloatBuffer {
        check(dtype == DType.F32) { "a tensor is ${describe(dtype, shape)}, not float32" }
        return bytes().asFloatBuffer()
    }

    /** The elements of an int64 tensor; a new view of the same memory. */
    fun longs(): LongBuffer {
        check(dtype == DType.I64) { "a tensor is ${describe(dtype, shape)}, not int64" }
        return bytes().asLongBuffer()
    }

    /** All bytes; a new view of the same memory. */
    internal fun bytes(): ByteBuffer {
        val view = data.duplicate().order(ByteOrder.LITTLE_ENDIAN)
        (view as Buffer).clear()
        return view
    }

    internal fun copyFrom(other: Tensor) {
        check(dtype == other.dtype && shape == other.shape)
        bytes().put(other.bytes())
    }

    internal fun copy(): Tensor = Tensor(dtype, shape).also { it.copyFrom(this) }

    internal fun zero() {
        val bytes = bytes()
        while (bytes.remaining() >= Long.SIZE_BYTES) bytes.putLong(0)
        while (bytes.hasRemaining()) bytes.put(0)
    }

    internal fun sameBits(other: Tensor): Boolean =
        dtype == other.dtype && shape == other.shape && bytes() == other.bytes()

    /** Whether no element is NaN or infinite; [part] is where floats are looked at, a part at a time. */
    internal fun isFinite(part: IntArray = IntArray(PART)): Boolean = when (dtype) {
        DType.F32 -> {
            val bits = bytes().asIntBuffer()
            var finite = true
            while (finite && bits.hasRemaining()) {
                val size = minOf(part.size, bits.remaining())
                bits.get(part, 0, size)
                finite = largestExponent(part, size) != EXPONENT
            }
            finite
        }
        DType.F64 -> bytes().asDoubleBuffer().let { all -> (0 until count).all { all.get(it).isFinite() } }
        else -> true
    }

    companion object {
        internal const val PART = 4096

        internal fun floats(shape: List<Int>, values: FloatArray): Tensor =
            Tensor(DType.F32, shape).also { it.floats().put(values) }

        internal fun scalar(value: Float): Tensor = floats(listOf(1), floatArrayOf(value))

        /** Takes over bytes; they must be direct. */
        internal fun over(dtype: DType, shape: List<Int>, data: ByteBuffer): Tensor {
            check(data.isDirect && data.capacity().toLong() == elements(shape) * dtype.size)
            return Tensor(dtype, shape, data)
        }

        private fun direct(size: Long): ByteBuffer {
            if (size > Int.MAX_VALUE) throw StateError("a tensor of $size bytes is too large for a phone")
            return ByteBuffer.allocateDirect(size.toInt()).order(ByteOrder.LITTLE_ENDIAN)
        }
    }
}

private const val EXPONENT = 0x7F800000

/** The largest exponent of the first floats: all ones for NaN and infinity alone. */
private fun largestExponent(bits: IntArray, size: Int): Int {
    var largest = 0
    for (i in 0 until size) largest = maxOf(largest, bits[i] and EXPONENT)
    return largest
}

/** Tensors by name. */
typealias Tensors = Map<String, Tensor>

/** Such as float32[8,16]. */
internal fun describe(dtype: DType, shape: List<Int>): String = dtype.label + shape.joinToString(",", "[", "]")
