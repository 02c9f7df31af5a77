package io.github.effine

import androidx.test.platform.app.InstrumentationRegistry
import io.github.effine.android.shippedBundle
import java.io.File
import org.junit.Assert.assertTrue
import org.junit.Test

/**
 * Replays golden runs on the device, with its own runtime: that of the artifact in the folder
 * `artifact`, an argument of the instrumentation, else those of the bundle in the test's assets.
 *
 * `effine parity --on android` takes the results from the folder `effine` in the test's files.
 */
class GoldenRunTest {
    private val arguments = InstrumentationRegistry.getArguments()
    private val context = InstrumentationRegistry.getInstrumentation().context

    @Test
    fun theGoldenRunIsReplayed() {
        val pushed = arguments.getString("artifact")
        val artifacts = when (pushed) {
            null -> Bundle.open(shippedBundle(context)).artifacts.values
            else -> listOf(Artifact.open(File(pushed)))
        }
        for (artifact in artifacts) replay(artifact)
    }

    private fun replay(artifact: Artifact) {
        val results = File(context.filesDir, "effine")
        results.deleteRecursively()
        assertTrue("$results can't be made", results.mkdirs())
        fun save(name: String, tensors: Tensors) =
            TensorFile(tensors, mapOf("format" to "effine replay")).write(File(results, "$name.safetensors"))
        Engine(artifact, arguments.getString("threads")?.toInt()).use { engine ->
            val result = Replay(artifact, engine).run()
            save("result", result)
            save("resumed", Replay(artifact, engine, through = File(results, "state.safetensors")).run())
            if (artifact.manifest.accumulates) {
                save("accumulated", Replay(artifact, engine, accumulated = true).run())
            }
            val found = artifact.compared(result)
            assertTrue("${artifact.folder}: $found", found.passed) // the rest is compared on the workstation
        }
    }
}
