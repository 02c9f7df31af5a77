package io.github.effine

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.file.Files
import java.nio.file.LinkOption
import java.security.PublicKey

internal const val AGAIN = "copy the artifact anew or export it again"
private const val EXECUTORCH = "1.5"
private const val MAX_MANIFEST = 64 shl 20
private const val STATE = "state.safetensors"
private const val GOLDEN = "golden.safetensors"
private const val TOKENIZER = "tokenizer.json"
internal const val WEIGHTS = "backbone.ptd"
internal const val BACKBONES = "backbones"

/** An artifact whose files have been verified: `NAME.effine`, as `effine-export` writes it. */
class Artifact private constructor(val folder: File, val manifest: Manifest) {
    /** The Hugging Face tokenizer file. */
    val tokenizer: File get() = file(TOKENIZER)

    /** The frozen weights that all programs read. */
    internal val weights: File get() = file(WEIGHTS)

    /**
     * A file that the manifest lists; the weights may be those that a bundle shares.
     *
     * @throws ArtifactError it lists no such file.
     */
    fun file(name: String): File {
        val entry = manifest.files[name] ?: throw ArtifactError("$folder: the artifact has no $name; $AGAIN")
        return place(folder, name, entry)
    }

    /** The exported parameters as the first phase has them, and all else zero; a new copy each time. */
    internal fun initialState(): State = try {
        State.of(manifest.layout(manifest.firstPhase), content(STATE).tensors, zeroMoments = true)
    } catch (error: FormatError) {
        throw ArtifactError("$folder/$STATE: ${error.message}; $AGAIN", error)
    }

    /** The recorded training run with which an engine is checked. */
    internal fun golden(): TensorFile = content(GOLDEN)

    private fun content(name: String): TensorFile = try {
        TensorFile.read(file(name))
    } catch (error: StateError) {
        throw ArtifactError("${error.message}; $AGAIN", error)
    }

    companion object {
        /**
         * Verifies an artifact: the manifest and its signature first, then every file, then that
         * nothing is added.
         *
         * @param key a P-256 key, see [publicKey]; the manifest must then carry its signature.
         *   Without a key damage is detected, but not intent.
         * @throws ArtifactError naming the file that is damaged, missing or additional, or the
         *   version that doesn't fit.
         */
        @JvmStatic
        @JvmOverloads
        fun open(folder: File, key: PublicKey? = null): Artifact = try {
            val manifest = openManifest(folder, key)
            for ((name, entry) in manifest.files) checkFile(place(folder, name, entry), entry)
            checkNothingAdded(folder, manifest)
            if (manifest.executorch.split(".").take(2).joinToString(".") != EXECUTORCH) {
                throw ArtifactError(
                    "$folder: made for ExecuTorch ${manifest.executorch}, this version of effine runs " +
                        "$EXECUTORCH; export it again",
                )
            }
            Artifact(folder, manifest)
        } catch (error: IOException) {
            throw ArtifactError("$folder: can't be read: ${error.message}", error)
        }

        private fun openManifest(folder: File, key: PublicKey?): Manifest {
            if (!folder.isDirectory) throw ArtifactError("$folder: no such artifact directory")
            val file = File(folder, MANIFEST)
            if (!exists(file)) throw ArtifactError("$folder: not an artifact: it has no $MANIFEST")
            val content = readPlain(file, MAX_MANIFEST)
            if (key != null) checkSignature(file, content, File(folder, SIGNATURE), key)
            try {
                return readManifest(strictUtf8(ByteBuffer.wrap(content)))
            } catch (error: FormatError) {
                throw ArtifactError("$file: ${error.message}", error)
            }
        }

        /** Where a file is: in the artifact, or, weights of a bundle, beside it under their hash. */
        private fun place(folder: File, name: String, entry: FileEntry): File {
            val own = File(folder, name)
            if (name != WEIGHTS || exists(own)) return own
            val shared = File(folder.canonicalFile.parentFile, "$BACKBONES/${entry.sha256}.ptd")
            return if (exists(shared)) shared else own
        }

        private fun checkFile(file: File, entry: FileEntry) {
            val size = plainSize(file)
            if (size != entry.size) throw ArtifactError("$file: has $size bytes, not ${entry.size}; $AGAIN")
            if (hashOf(file) != entry.sha256) {
                throw ArtifactError("$file: damaged: its bytes don't give its sha256; $AGAIN")
            }
        }

        private fun checkNothingAdded(folder: File, manifest: Manifest) {
            for (name in folder.list().orEmpty().sorted()) {
                val file = File(folder, name)
                val known = when (name) {
                    REPORTS -> Files.isDirectory(file.toPath(), LinkOption.NOFOLLOW_LINKS)
                    SIGNATURE -> plainSize(file) >= 0
                    else -> name == MANIFEST || name in manifest.files
                }
                if (!known) throw ArtifactError("$file: isn't part of the artifact; remove it")
            }
        }
    }
}
