package io.github.effine

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import kotlin.math.abs
import kotlin.math.round

private const val FP16 = "fp16"
private const val INT8 = "int8"
internal const val EXACT = "fp32"

/** What features can be rounded to. */
internal val PRECISIONS = arrayOf(EXACT, FP16, INT8)

/** Direct memory of little-endian order that is used again, and only ever made larger. */
internal class Scratch {
    private var memory = ByteBuffer.allocateDirect(0)

    fun of(size: Int): ByteBuffer {
        if (memory.capacity() < size) memory = ByteBuffer.allocateDirect(size)
        return slice(memory, 0, size)
    }
}

/** A view of some bytes. */
internal fun slice(bytes: ByteBuffer, start: Int, end: Int): ByteBuffer {
    val view = bytes.duplicate()
    view.limit(end)
    view.position(start)
    return view.slice().order(ByteOrder.LITTLE_ENDIAN)
}

/** Features as the cache stores them, valid tokens only, in the form of effine.runtime.packing. */
internal class Packing(private val manifest: Manifest, val precision: String) {
    private val scratch = Scratch()

    /** The payload for features at batch 1 of a sample with so many tokens; good until the next call. */
    fun pack(features: Tensors, tokens: Int): ByteBuffer {
        val payload = scratch.of(size(tokens))
        forEach(tokens) { spec, rows, start, size ->
            encode(features.getValue(spec.name).floats(), rows, spec.shape.last(), precision, slice(payload, start, start + size))
        }
        return payload
    }

    /** Puts the features into a row of each of the tensors. */
    fun unpack(payload: ByteBuffer, tokens: Int, into: Tensors, row: Int) = forEach(tokens) { spec, rows, start, size ->
        val tensor = into.getValue(spec.name)
        val target = tensor.floats()
        target.position(row * (tensor.count / tensor.shape[0]))
        decode(slice(payload, start, start + size), rows, spec.shape.last(), precision, target)
    }

    /** Bytes of the payload of a sample with so many tokens. */
    fun size(tokens: Int): Int {
        var end = 0
        forEach(tokens) { _, _, start, size -> end = start + size }
        return end
    }

    /** Each feature with its number of rows, and where they start in the payload and how many bytes they are. */
    private inline fun forEach(tokens: Int, use: (TensorSpec, Int, Int, Int) -> Unit) {
        var start = 0
        for (spec in manifest.backboneMethod(1, manifest.seqFor(tokens)).outputs) {
            val rows = if (spec.perToken) tokens else 1
            val size = encodedSize(rows, spec.shape.last(), precision)
            use(spec, rows, start, size)
            start += size
        }
    }
}

/** Bytes of so many rows. */
internal fun encodedSize(rows: Int, width: Int, precision: String): Int = when (precision) {
    INT8 -> rows * (Float.SIZE_BYTES + width)
    FP16 -> rows * width * Short.SIZE_BYTES
    else -> rows * width * Float.SIZE_BYTES
}

/** Writes the first [rows] rows. */
internal fun encode(values: FloatBuffer, rows: Int, width: Int, precision: String, into: ByteBuffer) {
    when (precision) {
        INT8 -> encodeInt8(values, rows, width, into)
        FP16 -> for (i in 0 until rows * width) into.putShort(i * Short.SIZE_BYTES, toHalf(values.get(i)))
        else -> into.asFloatBuffer().put(values.duplicate().apply { limit(rows * width) })
    }
}

/** Reads rows to where [into] is. */
internal fun decode(payload: ByteBuffer, rows: Int, width: Int, precision: String, into: FloatBuffer) {
    when (precision) {
        INT8 -> for (i in 0 until rows * width) {
            into.put(payload.get(rows * Float.SIZE_BYTES + i) * payload.getFloat(i / width * Float.SIZE_BYTES))
        }
        FP16 -> for (i in 0 until rows * width) into.put(fromHalf(payload.getShort(i * Short.SIZE_BYTES)))
        else -> into.put(payload.asFloatBuffer())
    }
}

private fun encodeInt8(values: FloatBuffer, rows: Int, width: Int, into: ByteBuffer) {
    for (row in 0 until rows) {
        var largest = 0f
        for (i in row * width until (row + 1) * width) largest = maxOf(largest, abs(values.get(i)))
        val scale = largest / Byte.MAX_VALUE
        into.putFloat(row * Float.SIZE_BYTES, scale)
        val usable = scale.isFinite() && scale > 0
        for (i in row * width until (row + 1) * width) {
            val value = if (usable) round(values.get(i) / scale).coerceIn(-127f, 127f) else 0f
            into.put(rows * Float.SIZE_BYTES + i, value.toInt().toByte())
        }
    }
}

private const val INFINITE = 0x7F800000
private const val SMALLEST_NORMAL_HALF = 0x38800000
private const val BEYOND_HALF = 0x47800000
private const val DROPPED_BITS = 13

/** IEEE binary16 of a value, rounded half to even. */
internal fun toHalf(value: Float): Short {
    val bits = value.toRawBits()
    val magnitude = bits and Int.MAX_VALUE
    val half = when {
        magnitude > INFINITE -> 0x7E00 or (magnitude shr DROPPED_BITS and 0x3FF)
        magnitude >= BEYOND_HALF -> 0x7C00
        magnitude >= SMALLEST_NORMAL_HALF -> {
            val even = magnitude shr DROPPED_BITS and 1
            (magnitude - 0x38000000 + 0xFFF + even) shr DROPPED_BITS
        }
        // A float's last place at one half is that of the halves below the normal ones.
        else -> (Float.fromBits(magnitude) + 0.5f).toRawBits() - 0.5f.toRawBits()
    }
    return (bits ushr 16 and 0x8000 or half).toShort()
}

/** The value of an IEEE binary16. */
internal fun fromHalf(half: Short): Float {
    val magnitude = half.toInt() and 0x7FFF
    val value = when {
        magnitude >= 0x7C00 -> Float.fromBits(INFINITE or (magnitude shl DROPPED_BITS))
        magnitude >= 0x400 -> Float.fromBits((magnitude shl DROPPED_BITS) + 0x38000000)
        else -> magnitude / 16777216f
    }
    return if (half < 0) -value else value
}
