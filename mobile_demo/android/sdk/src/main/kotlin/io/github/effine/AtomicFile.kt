package io.github.effine

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import java.nio.file.StandardOpenOption
import java.security.SecureRandom

private const val ABANDONED_MILLISECONDS = 600_000L

/**
 * Replaces [file] when [write] ends well, and never before: the data are on the disk before the
 * name points to them. What a killed process left behind is removed by a later write.
 */
internal fun writeAtomically(file: File, write: (FileChannel) -> Unit) {
    if (file.exists() && !file.isFile) throw StateError("$file: can't be written: not a regular file")
    val folder = file.absoluteFile.parentFile
    val temporary = File(folder, ".${file.name}.${Integer.toHexString(SecureRandom().nextInt())}.tmp")
    try {
        removeAbandoned(folder, file.name)
        FileOutputStream(temporary).use { stream ->
            write(stream.channel)
            stream.fd.sync()
        }
        Files.move(temporary.toPath(), file.toPath(), StandardCopyOption.ATOMIC_MOVE)
    } catch (error: IOException) {
        throw StateError("$file: can't be written: ${error.message}; what was there is unchanged", error)
    } finally {
        temporary.delete()
    }
    syncFolder(folder)
}

private fun removeAbandoned(folder: File, name: String) {
    val limit = System.currentTimeMillis() - ABANDONED_MILLISECONDS
    folder.listFiles()
        ?.filter { it.name.startsWith(".$name.") && it.name.endsWith(".tmp") && it.lastModified() < limit }
        ?.forEach { it.delete() }
}

/** Makes a rename durable; some file systems can't, and the new file is in place anyway. */
internal fun syncFolder(folder: File) {
    try {
        FileChannel.open(folder.toPath(), StandardOpenOption.READ).use { it.force(true) }
    } catch (_: IOException) {
        return
    }
}
