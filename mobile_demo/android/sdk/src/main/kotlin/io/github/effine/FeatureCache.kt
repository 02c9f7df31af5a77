package io.github.effine

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.util.zip.CRC32

internal const val DEFAULT_BOUND = 512_000_000L
private const val MAGIC = "EFFCACH2"
private const val KEY_SIZE = 32
private const val CHECKSUM = KEY_SIZE + Int.SIZE_BYTES
private const val HEADER_SIZE = CHECKSUM + Int.SIZE_BYTES

/** Identifies a sample by its padded token inputs at batch 1. */
internal fun sampleKey(tokens: Tensors): ByteBuffer {
    val digest = sha256()
    for (name in tokens.keys.sorted()) {
        digest.update(name.toByteArray())
        digest.update(tokens.getValue(name).bytes())
    }
    return ByteBuffer.wrap(digest.digest())
}

/**
 * What the backbone returned for a sample, in the file that effine.runtime.feature_cache describes.
 *
 * The file may be deleted at any time. A damaged or half-written record costs a recomputation, never a
 * wrong result. Beyond the bound nothing more is stored.
 *
 * @param file made if missing; one of another backbone or precision is replaced.
 * @param bound the largest size of the file in bytes.
 * @param phase the one whose features these are.
 * @param held the tensors of the state that its backbone reads.
 * @throws StateError the file can't be opened.
 */
internal class FeatureCache(
    file: File,
    artifact: Artifact,
    private val packing: Packing,
    bound: Long,
    phase: String,
    held: Collection<Tensor>,
) : Closeable {
    private val channel: FileChannel
    private val longest = artifact.manifest.tokens.maxLength
    private val places = HashMap<ByteBuffer, Place>()
    private val refused = HashSet<ByteBuffer>()
    private val scratch = Scratch()

    var bound = bound
        private set

    /** Of the file, in bytes. */
    var size = 0L
        private set

    /** How many samples were not stored. */
    val uncached: Int get() = refused.size

    val isEmpty: Boolean get() = places.isEmpty()

    private class Place(val position: Long, val tokens: Int)

    init {
        try {
            file.absoluteFile.parentFile.mkdirs()
            channel = RandomAccessFile(file, "rw").channel
            open(MAGIC.toByteArray() + cacheKey(artifact, packing.precision, phase, held))
        } catch (error: IOException) {
            throw StateError("$file: can't be a feature cache: ${error.message}; choose another file", error)
        }
    }

    operator fun contains(sample: ByteBuffer): Boolean = sample in places

    /** The stored payload of a sample, or null; good until the next call. */
    fun get(sample: ByteBuffer): ByteBuffer? {
        val place = places[sample] ?: return null
        val record = read(place.position, recordSize(place.tokens))
        if (record.limit() == recordSize(place.tokens)) {
            val same = slice(record, 0, KEY_SIZE) == sample && record.getInt(KEY_SIZE) == place.tokens
            if (same && record.getInt(CHECKSUM) == checksum(record)) return slice(record, HEADER_SIZE, record.limit())
        }
        places.remove(sample)
        return null
    }

    /** Stores the payload of a sample with so many tokens unless the bound is reached. */
    fun put(sample: ByteBuffer, tokens: Int, payload: ByteBuffer) {
        val record = scratch.of(recordSize(tokens))
        record.put(sample.duplicate()).putInt(tokens).putInt(0).put(payload.duplicate())
        record.rewind()
        record.putInt(CHECKSUM, checksum(record))
        val fits = size + record.limit() <= bound
        if (!fits || !write(size, record)) {
            if (fits) bound = size
            refused += sample
            return
        }
        places[sample] = Place(size, tokens)
        size += record.limit()
    }

    /** Bytes of the record of a sample with so many tokens. */
    fun recordSize(tokens: Int): Int = HEADER_SIZE + packing.size(tokens)

    override fun close() = channel.close()

    /** Starts anew if the file starts otherwise; else indexes the whole records and cuts off a broken tail. */
    private fun open(start: ByteArray) {
        if (read(0, start.size) != ByteBuffer.wrap(start)) {
            channel.truncate(0)
            if (!write(0, ByteBuffer.wrap(start))) bound = 0
        }
        size = start.size.toLong()
        val end = channel.size()
        while (true) {
            val header = read(size, HEADER_SIZE)
            if (header.limit() < HEADER_SIZE) break
            val tokens = header.getInt(KEY_SIZE)
            if (tokens !in 1..longest || size + recordSize(tokens) > end) break
            val key = ByteArray(KEY_SIZE).also { header.get(it) }
            places[ByteBuffer.wrap(key)] = Place(size, tokens)
            size += recordSize(tokens)
        }
        if (size < end) channel.truncate(size)
    }

    /** What is there, less than [count] bytes if the file ends or the disk fails. */
    private fun read(position: Long, count: Int): ByteBuffer {
        val bytes = scratch.of(count)
        try {
            while (bytes.hasRemaining()) if (channel.read(bytes, position + bytes.position()) < 0) break
        } catch (_: IOException) {
            bytes.position(0)
        }
        bytes.flip()
        return bytes
    }

    private fun write(position: Long, bytes: ByteBuffer): Boolean = try {
        while (bytes.hasRemaining()) channel.write(bytes, position + bytes.position())
        true
    } catch (_: IOException) {
        false
    }
}

/** CRC-32 of a record without its place. */
private fun checksum(record: ByteBuffer): Int = CRC32().run {
    update(slice(record, 0, CHECKSUM))
    update(slice(record, HEADER_SIZE, record.limit()))
    value.toInt()
}

/** Identifies the backbone program with all values it reads, and the precision. */
private fun cacheKey(artifact: Artifact, precision: String, phase: String, held: Collection<Tensor>): ByteArray {
    val manifest = artifact.manifest
    val digest = sha256()
    for (name in listOf(manifest.backboneMethod(1, manifest.seqs.first()).file, WEIGHTS)) {
        digest.update(bytesOf(manifest.files.getValue(name).sha256))
    }
    digest.update(precision.toByteArray())
    if (manifest.phases.isNotEmpty()) {
        digest.update(phase.toByteArray())
        for (tensor in held) digest.update(tensor.bytes())
    }
    return digest.digest()
}
