package io.github.effine.android

import android.content.Context
import android.content.res.AssetManager
import io.github.effine.ArtifactError
import java.io.File
import java.io.IOException

private const val BUNDLE = "effine"
private const val PLACE = "effine-shipped"
private const val INFO = "bundle.json"

/**
 * The bundle that `effine pack --android` put into the app's assets, as files: programs are opened by
 * path. Copied when the app has another bundle than before, which takes a while; not to be called from
 * the main thread.
 *
 * @return a folder for [io.github.effine.Bundle.open].
 * @throws ArtifactError the assets hold no bundle, or it can't be copied.
 */
@Synchronized
fun shippedBundle(context: Context): File {
    val place = File(context.noBackupFilesDir, PLACE)
    val info = try {
        context.assets.open("$BUNDLE/$INFO").use { it.readBytes() }
    } catch (error: IOException) {
        throw ArtifactError("the app's assets hold no bundle; put one there with effine pack --android", error)
    }
    val copied = File(place, INFO)
    try {
        if (!copied.isFile || !copied.readBytes().contentEquals(info)) replace(context.assets, place)
    } catch (error: IOException) {
        throw ArtifactError("$place: the bundle can't be copied: ${error.message}", error)
    }
    return place
}

/** Copies beside [place] and renames, so that what is there is whole. */
private fun replace(assets: AssetManager, place: File) {
    val copy = File("$place.new")
    copy.deleteRecursively()
    copy(assets, BUNDLE, copy)
    place.deleteRecursively()
    if (!copy.renameTo(place)) throw IOException("$copy can't be renamed")
}

private fun copy(assets: AssetManager, from: String, to: File) {
    val inside = assets.list(from).orEmpty()
    for (name in inside) copy(assets, "$from/$name", File(to, name))
    if (inside.isEmpty()) {
        to.parentFile?.mkdirs()
        assets.open(from).use { input -> to.outputStream().use { input.copyTo(it) } }
    }
}
