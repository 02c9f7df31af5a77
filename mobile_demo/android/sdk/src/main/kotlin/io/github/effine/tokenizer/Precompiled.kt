package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

/** Clusters with more bytes are looked up one code point after the other. */
private const val LONGEST = 5

/**
 * SentencePiece's normalizer: replaces what begins with an entry of its table.
 *
 * @property units a double array, as darts-clone has it, from UTF-8 to places in [texts].
 * @property texts replacements, each ended by a zero byte.
 */
internal class Precompiled(private val units: IntArray, private val texts: ByteArray) : Normalizer {
    override fun apply(text: Aligned): Aligned {
        val changes = Changes(text.size)
        var start = 0
        while (start < text.size) {
            val end = Clusters.end(text.codes, start)
            val cluster = text.text(start, end).toByteArray()
            val whole = if (cluster.size <= LONGEST) replacement(cluster) else null
            if (whole != null) {
                changes.addReplacement(whole, end - start)
            } else {
                for (code in text.codes.slice(start until end)) change(code, changes)
            }
            start = end
        }
        return changes.of(text)
    }

    private fun change(code: Int, changes: Changes) {
        val found = replacement(String(Character.toChars(code)).toByteArray())
        if (found == null) changes.add(code, 0) else changes.addReplacement(found, 1)
    }

    /** What stands for the shortest entry that [part] begins with; null if there is none. */
    private fun replacement(part: ByteArray): IntArray? {
        var at = offset(unit(0))
        for (byte in part) {
            val label = byte.toInt() and 0xFF
            at = at xor label
            val unit = unit(at)
            if (label == 0 || unit and LABEL != label) return null
            at = at xor offset(unit)
            if (unit and HAS_LEAF != 0) return codes(unit(at) and Int.MAX_VALUE)
        }
        return null
    }

    private fun unit(at: Int): Int = units.getOrElse(at) { 0 }

    private fun offset(unit: Int): Int = unit ushr 10 shl (unit and (1 shl 9) ushr 6)

    private fun codes(start: Int): IntArray {
        var end = start
        while (end < texts.size && texts[end] != 0.toByte()) end++
        if (end < start) return IntArray(0)
        return String(texts, start, end - start, Charsets.UTF_8).codePoints().toArray()
    }

    companion object {
        private const val LABEL = Int.MIN_VALUE or 0xFF
        private const val HAS_LEAF = 1 shl 8

        fun read(place: Place): Precompiled {
            val bytes = try {
                ByteBuffer.wrap(Base64.getDecoder().decode(place.string())).order(ByteOrder.LITTLE_ENDIAN)
            } catch (error: IllegalArgumentException) {
                throw FormatError("normalizer: its table is not base64: ${error.message}")
            }
            val size = if (bytes.remaining() < Int.SIZE_BYTES) -1 else bytes.getInt()
            if (size < 0 || size > bytes.remaining()) throw FormatError("normalizer: its table is cut off")
            val units = IntArray(size / Int.SIZE_BYTES) { bytes.getInt() }
            return Precompiled(units, ByteArray(bytes.remaining()).also { bytes.get(it) })
        }
    }
}
