package io.github.effine

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.channels.FileChannel
import java.util.concurrent.Semaphore

/**
 * A lock that one thread of one process holds; the system releases it when the process dies.
 *
 * @param file made when missing and never deleted; one object for it in a process, as closing any of
 *   a process's handles to a file gives up its locks.
 */
internal class ProcessLock(private val file: File) {
    private val threads = Semaphore(1)

    /** Waits for the lock; throws [StateError] if the file can't be used. */
    fun <T> hold(block: () -> T): T {
        threads.acquireUninterruptibly()
        try {
            return open { it.lock() }.use { block() }
        } finally {
            threads.release()
        }
    }

    /** Runs [block] with the lock, or [otherwise] if it is held already. */
    fun <T> tryHold(otherwise: () -> T, block: () -> T): T {
        if (!threads.tryAcquire()) return otherwise()
        try {
            var locked = false
            return open { locked = it.tryLock() != null }.use { if (locked) block() else otherwise() }
        } finally {
            threads.release()
        }
    }

    private fun open(lock: (FileChannel) -> Unit): FileChannel = try {
        file.absoluteFile.parentFile.mkdirs()
        RandomAccessFile(file, "rw").channel.also(lock)
    } catch (error: IOException) {
        throw StateError("$file: can't be locked: ${error.message}; choose a folder that can be written", error)
    }
}
