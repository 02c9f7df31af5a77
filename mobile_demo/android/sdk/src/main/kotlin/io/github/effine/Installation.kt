package io.github.effine

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import java.security.PublicKey
import java.util.zip.ZipEntry
import java.util.zip.ZipException
import java.util.zip.ZipFile

private const val MAX_FILES = 10_000
private const val SCRATCH = ".effine-"
private const val PART = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
private val PATH = Regex("$PART(/$PART)?")

/**
 * What an installation did.
 *
 * @property bundle now in use.
 * @property orphans artifacts of the bundle before whose checkpoints don't go on, as the new bundle
 *   has them with another state or not at all.
 * @property kept the folder of the bundle before, which isn't removed if there are orphans.
 */
class Installed internal constructor(val bundle: Bundle, val orphans: List<String>, val kept: File?)

/**
 * Installs a bundle from one file: an archive without compression, so that what is unpacked is never
 * larger than it. The bundle is unpacked into a folder named by the hash of its `bundle.json`,
 * verified there, and taken into use by one rename.
 */
internal class Installation(private val archive: File, private val home: File, private val key: PublicKey) {
    fun run(): Installed {
        val before = try {
            takeIntoUse()
        } catch (error: IOException) {
            throw ArtifactError("$home: $archive can't be installed: ${error.message}", error)
        } catch (error: StateError) {
            throw ArtifactError("$home: $archive can't be installed: ${error.message}", error)
        }
        val bundle = Bundle.open(home, key)
        val orphans = before?.let { orphans(it, bundle) }.orEmpty()
        if (orphans.isNotEmpty()) return Installed(bundle, orphans, before?.folder)
        removeOthers(bundle)
        return Installed(bundle, emptyList(), null)
    }

    /** Takes the archive's bundle into use; returns the one before. */
    private fun takeIntoUse(): Bundle? {
        if (!home.isDirectory && !home.mkdirs()) throw ArtifactError("$home: can't be made; choose another folder")
        val scratch = Files.createTempDirectory(home.toPath(), SCRATCH).toFile()
        try {
            val folder = File(scratch, "bundle")
            unpack(folder)
            val bundle = Bundle.open(folder, key)
            val before = inUse()
            sync(folder)
            place(folder, File(home, bundle.sha256), File(scratch, "damaged"))
            writeAtomically(File(home, CURRENT)) { it.write(ByteBuffer.wrap(bundle.sha256.toByteArray())) }
            return before
        } finally {
            scratch.deleteRecursively()
        }
    }

    /** Checks all names and sizes, then signature and version, and only then writes the rest. */
    private fun unpack(folder: File) {
        if (!archive.isFile) throw ArtifactError("$archive: no such file")
        try {
            ZipFile(archive).use { unpack(it, folder) }
        } catch (error: ZipException) {
            throw ArtifactError("$archive: not a usable zip archive: ${error.message}", error)
        } catch (error: IllegalArgumentException) {
            throw ArtifactError("$archive: not a usable zip archive: ${error.message}", error)
        }
    }

    private fun unpack(zip: ZipFile, folder: File) {
        val entries = checked(zip)
        folder.mkdir()
        for ((name, limit) in listOf(BUNDLE to MAX_BUNDLE, BUNDLE_SIGNATURE to MAX_SIGNATURE)) {
            val entry = entries.remove(name)
            if (entry != null && entry.size <= limit) write(zip, entry, File(folder, name))
        }
        checkVersion(folder)
        for ((name, entry) in entries) write(zip, entry, File(folder, name))
    }

    private fun checkVersion(folder: File) {
        val version = try {
            Bundle.readInfo(folder, key).version
        } catch (error: ArtifactError) {
            throw ArtifactError(error.message.orEmpty().replace("$folder", "$archive"), error)
        }
        val installed = installedVersion()
        if (version < installed) {
            throw ArtifactError(
                "$archive: version $version is older than the installed $installed; " +
                    "pack it with a --version that isn't lower",
            )
        }
    }

    /** The entries by name: uncompressed files, one or two levels deep, each once. */
    private fun checked(zip: ZipFile): MutableMap<String, ZipEntry> {
        if (zip.size() > MAX_FILES) throw ArtifactError("$archive: ${zip.size()} files, more than $MAX_FILES")
        val entries = LinkedHashMap<String, ZipEntry>()
        for (entry in zip.entries()) {
            val shown = Json.of(entry.name.take(100)).canonical()
            if (!PATH.matches(entry.name)) throw ArtifactError("$archive: $shown isn't a path inside of a bundle")
            if (entry.method != ZipEntry.STORED || entry.size != entry.compressedSize) {
                throw ArtifactError("$archive: $shown is compressed or encrypted; use effine pack")
            }
            if (entries.put(entry.name, entry) != null) throw ArtifactError("$archive: $shown occurs twice")
        }
        val total = entries.values.sumOf { it.size }
        if (total > archive.length()) throw ArtifactError("$archive: $total bytes in an archive of ${archive.length()}")
        return entries
    }

    private fun write(zip: ZipFile, entry: ZipEntry, file: File) {
        file.parentFile?.mkdir()
        zip.getInputStream(entry).use { source -> FileOutputStream(file).use { source.copyTo(it, 1 shl 20) } }
    }

    /** Makes sure that all is on the disk before a name points to it. */
    private fun sync(folder: File) {
        for (file in folder.walkBottomUp()) {
            if (file.isDirectory) syncFolder(file) else FileOutputStream(file, true).use { it.fd.sync() }
        }
    }

    /** Moves a bundle to its folder, unless it is there already. */
    private fun place(folder: File, target: File, damaged: File) {
        try {
            Bundle.open(target, key)
        } catch (_: ArtifactError) {
            if (target.exists()) Files.move(target.toPath(), damaged.toPath(), StandardCopyOption.ATOMIC_MOVE)
            Files.move(folder.toPath(), target.toPath(), StandardCopyOption.ATOMIC_MOVE)
        }
    }

    /** The bundle before; null also if it can't be read, which an installation mends. */
    private fun inUse(): Bundle? = try {
        Bundle.current(home)?.let { Bundle.open(it) }
    } catch (_: ArtifactError) {
        null
    }

    private fun installedVersion(): Int = try {
        Bundle.current(home)?.let { Bundle.readInfo(it, null).version } ?: 0
    } catch (_: ArtifactError) {
        0
    }

    private fun orphans(before: Bundle, bundle: Bundle): List<String> = before.artifacts.filter { (name, artifact) ->
        bundle.artifacts[name]?.manifest?.stateId != artifact.manifest.stateId
    }.keys.toList()

    /** Removes bundles that are no longer used, and what a killed installation left. */
    private fun removeOthers(bundle: Bundle) {
        for (file in home.listFiles().orEmpty()) {
            val unused = BUNDLE_NAME.matches(file.name) && file.name != bundle.folder.name
            if (unused || file.name.startsWith(SCRATCH)) file.deleteRecursively()
        }
    }
}
