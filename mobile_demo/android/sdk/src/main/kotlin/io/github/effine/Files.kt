package io.github.effine

import java.io.File
import java.io.FileInputStream
import java.nio.file.Files
import java.nio.file.LinkOption

/** Whether there is anything of this name, a broken link included. */
internal fun exists(file: File): Boolean = Files.exists(file.toPath(), LinkOption.NOFOLLOW_LINKS)

internal fun isLink(file: File): Boolean = Files.isSymbolicLink(file.toPath())

/** The size of a plain file; anything else is refused with an [ArtifactError]. */
internal fun plainSize(file: File): Long {
    if (!exists(file)) throw ArtifactError("$file: missing; $AGAIN")
    if (!Files.isRegularFile(file.toPath(), LinkOption.NOFOLLOW_LINKS)) {
        throw ArtifactError("$file: is ${if (isLink(file)) "a symbolic link" else "not a plain file"}; $AGAIN")
    }
    return file.length()
}

/** The bytes of a plain file of at most [limit]. */
internal fun readPlain(file: File, limit: Int): ByteArray {
    if (plainSize(file) > limit) throw ArtifactError("$file: larger than $limit bytes; $AGAIN")
    return file.readBytes()
}

internal fun hashOf(file: File): String {
    val digest = sha256()
    val buffer = ByteArray(1 shl 16)
    FileInputStream(file).use { stream ->
        while (true) {
            val count = stream.read(buffer)
            if (count < 0) break
            digest.update(buffer, 0, count)
        }
    }
    return digest.hex()
}
