package io.github.effine

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.file.Files
import java.nio.file.attribute.BasicFileAttributes
import java.util.concurrent.ConcurrentHashMap

private val DISPOSABLE = Regex("""state-\d+\.ckpt|features-\d+\.cache|\..*\.tmp""")

/**
 * The folder of a [Personalization]:
 *
 *     store.json                   examples, labels, which states and run there are, reports
 *     state-ID.ckpt                checkpoints: states in use now or before, and that of the run
 *     features-FORGOTTEN.cache     the feature cache; forgetting examples names another one
 *     store.lock training.lock     held for a change, and as long as something trains
 *
 * `store.json` is replaced whole by every change, and what it doesn't name is as good as deleted.
 */
internal class PersonalStore private constructor(private val folder: File) {
    /** Held by what trains. */
    val training = ProcessLock(File(folder, "training.lock"))
    private val lock = ProcessLock(File(folder, "store.lock"))
    private val file = File(folder, "store.json")

    @Volatile
    private var known: Pair<List<Any?>, Contents>? = null

    /** What is there now, perhaps written by another process. */
    fun read(): Contents {
        if (!file.exists()) return Contents()
        val stamp = stamp()
        known?.let { (last, contents) -> if (last == stamp) return contents }
        val contents = try {
            contents(strictUtf8(ByteBuffer.wrap(file.readBytes())))
        } catch (error: FormatError) {
            throw StateError("$file: can't be used: ${error.message}", error)
        } catch (error: IOException) {
            throw StateError("$file: can't be read: ${error.message}", error)
        }
        known = stamp to contents
        return contents
    }

    /** Whatever changes with the file: each is a new one. */
    private fun stamp(): List<Any?> = try {
        val attributes = Files.readAttributes(file.toPath(), BasicFileAttributes::class.java)
        listOf(attributes.fileKey(), attributes.lastModifiedTime(), attributes.size())
    } catch (error: IOException) {
        throw StateError("$file: can't be read: ${error.message}", error)
    }

    /** Runs [block] while nothing changes and no file is removed. */
    fun <T> locked(block: (Contents) -> T): T = lock.hold { block(read()) }

    /** Replaces the contents, unless [edit] returns what it was given; returns those that are there then. */
    fun change(edit: (Contents) -> Contents): Contents = locked { before ->
        edit(before).also { after ->
            if (after !== before) {
                writeAtomically(file) { it.writeAll(ByteBuffer.wrap(after.toJson().canonical().toByteArray())) }
                known = stamp() to after
            }
        }
    }

    fun state(id: Long) = File(folder, "state-$id.ckpt")

    /** Where a feature cache may be that holds nothing of forgotten examples. */
    fun features(contents: Contents) = File(folder, "features-${contents.forgotten}.cache")

    /** Removes files that aren't needed; whatever trains does it when it has ended. */
    fun sweep() = training.tryHold({}) { sweepLocked() }

    /** [sweep] for who holds [training]. */
    fun sweepLocked() = locked { contents ->
        val needed = contents.needed.map(::state) + features(contents)
        folder.listFiles().orEmpty()
            .filter { DISPOSABLE.matches(it.name) && it !in needed }
            .forEach { it.delete() }
    }

    companion object {
        private val stores = ConcurrentHashMap<File, PersonalStore>()

        /** The one store of a folder in this process. */
        fun of(folder: File): PersonalStore = try {
            stores.getOrPut(folder.canonicalFile) { PersonalStore(folder.canonicalFile) }
        } catch (error: IOException) {
            throw StateError("$folder: can't be used: ${error.message}", error)
        }
    }
}
