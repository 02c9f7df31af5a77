package io.github.effine

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.security.PublicKey

internal const val BUNDLE = "bundle.json"
internal const val BUNDLE_SIGNATURE = "bundle.sig"
internal const val CURRENT = "current"
internal const val MAX_BUNDLE = 1 shl 20
private const val BUNDLE_SCHEMA = 1L
private const val PACK_AGAIN = "pack it again"
internal val BUNDLE_NAME = Regex("[0-9a-f]{64}")
private val FOLDER_NAME =
    Regex("(?!.*\\.\\.)(?!(backbones|bundle\\.json|bundle\\.sig)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

/** What `bundle.json` says: the hash of each artifact's manifest by folder, and its own. */
internal class BundleInfo(
    val version: Int,
    val verified: Boolean,
    val artifacts: Map<String, String>,
    val sha256: String,
)

/**
 * Several artifacts over one backbone, as `effine pack` writes them; every byte has been verified.
 *
 * @property version set by who packs it; an update never goes back to a lower one.
 * @property verified whether a parity report vouches for each artifact.
 * @property artifacts by the name of their folder.
 */
class Bundle private constructor(
    val folder: File,
    val version: Int,
    val verified: Boolean,
    val artifacts: Map<String, Artifact>,
    internal val sha256: String,
) {
    companion object {
        /**
         * Verifies a bundle and all of its artifacts.
         *
         * @param folder a bundle, or where bundles are installed.
         * @param key the bundle and each artifact must carry its signature.
         * @throws ArtifactError naming the file that is damaged, missing or additional.
         */
        @JvmStatic
        @JvmOverloads
        fun open(folder: File, key: PublicKey? = null): Bundle = try {
            val found = current(folder) ?: folder
            val info = readInfo(found, key)
            val artifacts = info.artifacts.mapValues { (name, sha256) -> artifact(File(found, name), sha256, key) }
            checkNothingAdded(found, artifacts)
            Bundle(found, info.version, info.verified, artifacts, info.sha256)
        } catch (error: IOException) {
            throw ArtifactError("$folder: can't be read: ${error.message}", error)
        }

        /**
         * Installs a bundle and takes it into use; after any failure the one before still is.
         *
         * @param archive what `effine pack --zip` wrote.
         * @param home a folder for nothing but installed bundles, made when missing.
         * @param key whose signature the bundle must carry.
         * @throws ArtifactError the archive isn't this key's bundle, is damaged, has an older version
         *   than the bundle in use, or holds anything that doesn't belong into it; or [home] can't be
         *   written.
         */
        @JvmStatic
        fun install(archive: File, home: File, key: PublicKey): Installed = Installation(archive, home, key).run()

        /** The bundle in use among those installed into a folder, if any is. */
        internal fun current(home: File): File? {
            val pointer = File(home, CURRENT)
            if (!exists(pointer)) return null
            val name = String(readPlain(pointer, 64), Charsets.ISO_8859_1)
            if (!BUNDLE_NAME.matches(name)) {
                throw ArtifactError("$pointer: doesn't name a bundle; install the bundle again")
            }
            return File(home, name)
        }

        internal fun readInfo(folder: File, key: PublicKey?): BundleInfo {
            val file = File(folder, BUNDLE)
            if (!exists(file)) throw ArtifactError("$folder: not a bundle: it has no $BUNDLE")
            val content = readPlain(file, MAX_BUNDLE)
            if (key != null) checkSignature(file, content, File(folder, BUNDLE_SIGNATURE), key)
            try {
                return parse(strictUtf8(ByteBuffer.wrap(content)))
            } catch (error: FormatError) {
                throw ArtifactError("$file: ${error.message}", error)
            }
        }

        private fun parse(text: String): BundleInfo {
            if (!isSealed(text)) throw FormatError("damaged: its bytes don't give its own sha256; $PACK_AGAIN")
            return Place(Json.parse(text), "").fields {
                get("schema").whole(BUNDLE_SCHEMA, BUNDLE_SCHEMA)
                val artifacts = get("artifacts").table().mapValues { it.value.hash() }
                val bad = artifacts.keys.firstOrNull { !FOLDER_NAME.matches(it) }
                if (bad != null) throw FormatError("artifacts: \"$bad\" is not a plain folder name")
                BundleInfo(
                    version = get("version").whole(1, Int.MAX_VALUE.toLong()).toInt(),
                    verified = get("verified").boolean(),
                    artifacts = artifacts,
                    sha256 = get("sha256").hash(),
                )
            }
        }

        private fun artifact(folder: File, sha256: String, key: PublicKey?): Artifact {
            if (isLink(folder)) throw ArtifactError("$folder: is a symbolic link; $PACK_AGAIN")
            val artifact = Artifact.open(folder, key)
            if (artifact.manifest.sha256 != sha256) {
                throw ArtifactError("$folder: isn't the artifact that $BUNDLE names; $PACK_AGAIN")
            }
            return artifact
        }

        private fun checkNothingAdded(folder: File, artifacts: Map<String, Artifact>) {
            val backbones = File(folder, BACKBONES)
            if (isLink(backbones)) throw ArtifactError("$backbones: is a symbolic link; $PACK_AGAIN")
            val shared = artifacts.values.mapTo(HashSet()) { it.weights.name }
            val known = artifacts.keys + setOf(BUNDLE, BUNDLE_SIGNATURE, BACKBONES)
            val added = folder.listFiles().orEmpty().filter { it.name !in known } +
                backbones.listFiles().orEmpty().filter { it.name !in shared }
            added.minOrNull()?.let { throw ArtifactError("$it: isn't part of the bundle; remove it") }
        }
    }
}
