package io.github.effine

import java.security.MessageDigest

internal const val HEX = "0123456789abcdef"

internal fun sha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

internal fun MessageDigest.hex(): String {
    val digits = StringBuilder()
    for (byte in digest()) digits.append(HEX[byte.toInt() shr 4 and 15]).append(HEX[byte.toInt() and 15])
    return digits.toString()
}

internal fun sha256Hex(text: String): String = sha256().apply { update(text.toByteArray()) }.hex()

/** The bytes that hexadecimal digits stand for. */
internal fun bytesOf(digits: String): ByteArray =
    ByteArray(digits.length / 2) { digits.substring(2 * it, 2 * it + 2).toInt(16).toByte() }
