package io.github.effine

import java.io.EOFException
import java.io.File
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

private const val MAX_HEADER = 100_000_000L
private const val ALIGNMENT = 64
private const val METADATA = "__metadata__"

/**
 * A safetensors file in its one canonical form: header keys sorted, data at a multiple of 64 bytes,
 * tensors in the given order without holes. The same tensors are the same bytes in every language.
 *
 * @property tensors in file order.
 */
internal class TensorFile(val tensors: Tensors, val metadata: Map<String, String>) {
    /** Writes the file atomically; throws [StateError] if a value isn't finite or the disk refuses. */
    fun write(file: File) {
        val header = header(file)
        writeAtomically(file) { channel ->
            channel.writeAll(ByteBuffer.wrap(header))
            for (tensor in tensors.values) channel.writeAll(tensor.bytes())
        }
    }

    private fun header(file: File): ByteArray {
        val table = LinkedHashMap<String, Json>()
        if (metadata.isNotEmpty()) table[METADATA] = Json.Table(metadata.mapValues { Json.Text(it.value) })
        var end = 0L
        for ((name, tensor) in tensors) {
            if (!tensor.isFinite()) throw StateError("$file: '$name' holds NaN or infinity and isn't stored")
            val begin = end
            end += tensor.data.capacity()
            table[name] = Json.Table(
                mapOf(
                    "data_offsets" to Json.Items(listOf(Json.Whole(begin), Json.Whole(end))),
                    "dtype" to Json.Text(tensor.dtype.code),
                    "shape" to Json.Items(tensor.shape.map { Json.of(it) }),
                ),
            )
        }
        val text = Json.Table(table).canonical().toByteArray()
        val padding = -(Long.SIZE_BYTES + text.size) and (ALIGNMENT - 1)
        return ByteBuffer.allocate(Long.SIZE_BYTES + text.size + padding)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putLong((text.size + padding).toLong())
            .put(text)
            .put(ByteArray(padding) { ' '.code.toByte() })
            .array()
    }

    companion object {
        /** Reads a file and refuses overlap, holes, unknown dtypes, wrong counts, NaN and infinity. */
        fun read(file: File): TensorFile = try {
            FileInputStream(file).channel.use { read(it) }
        } catch (error: FormatError) {
            throw StateError("$file: not a usable safetensors file: ${error.message}", error)
        } catch (error: IOException) {
            throw StateError("$file: can't be read: ${error.message}", error)
        }

        private fun read(channel: FileChannel): TensorFile {
            val size = channel.size()
            val length = if (size < Long.SIZE_BYTES) -1 else channel.readAll(Long.SIZE_BYTES).getLong(0)
            if (length < 0 || length > minOf(MAX_HEADER, size - Long.SIZE_BYTES)) {
                throw FormatError("a header of $length bytes in a file of $size")
            }
            val text = strictUtf8(channel.readAll(length.toInt()))
            if (!text.startsWith("{")) throw FormatError("the header isn't a JSON object")
            val table = Place(Json.parse(text), "").table()
            val metadata = table[METADATA]?.table()?.mapValues { it.value.string() } ?: emptyMap()
            val entries = (table - METADATA).map { (name, place) -> Entry.of(name, place) }
                .sortedWith(compareBy({ it.begin }, { it.end }))
            checkCover(entries, size - Long.SIZE_BYTES - length)
            return TensorFile(entries.associate { it.name to it.read(channel) }, metadata)
        }

        private fun checkCover(entries: List<Entry>, size: Long) {
            var position = 0L
            for (entry in entries) {
                if (entry.begin != position) {
                    throw FormatError("'${entry.name}' overlaps another tensor or leaves a hole")
                }
                position = entry.end
            }
            if (position != size) throw FormatError("$size bytes of data where $position are described")
        }
    }
}

private class Entry(val name: String, val begin: Long, val end: Long, val dtype: DType, val shape: List<Int>) {
    fun read(channel: FileChannel): Tensor {
        val tensor = Tensor.over(dtype, shape, channel.readAll((end - begin).toInt()))
        if (!tensor.isFinite()) throw FormatError("'$name' holds NaN or infinity")
        return tensor
    }

    companion object {
        fun of(name: String, place: Place): Entry = place.fields {
            val code = get("dtype").oneOf(*DType.entries.map { it.code }.toTypedArray())
            val dtype = DType.entries.first { it.code == code }
            val shape = get("shape").shape()
            val offsets = get("data_offsets").items().map { it.whole(0, Long.MAX_VALUE) }
            val size = elements(shape) * dtype.size
            if (name.isEmpty() || offsets.size != 2 || offsets[1] - offsets[0] != size || size > Int.MAX_VALUE) {
                throw FormatError("'$name': $code $shape doesn't fill bytes $offsets")
            }
            Entry(name, offsets[0], offsets[1], dtype, shape)
        }
    }
}

internal fun FileChannel.writeAll(bytes: ByteBuffer) {
    while (bytes.hasRemaining()) write(bytes)
}

/** Some bytes from the current position, in direct memory. */
internal fun FileChannel.readAll(size: Int): ByteBuffer {
    val bytes = ByteBuffer.allocateDirect(size).order(ByteOrder.LITTLE_ENDIAN)
    while (bytes.hasRemaining()) {
        if (read(bytes) < 0) throw EOFException("the file ends early")
    }
    (bytes as java.nio.Buffer).clear()
    return bytes
}

/** Text from bytes that must be UTF-8. */
internal fun strictUtf8(bytes: ByteBuffer): String = try {
    Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT)
        .decode(bytes).toString()
} catch (error: CharacterCodingException) {
    throw FormatError("not UTF-8")
}
