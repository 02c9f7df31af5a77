package io.github.effine

import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

class SelfTestTest {
    private val artifact = TinyArtifact.artifact
    private val result = Engine(artifact, 1).use { Replay(artifact, it).run() }

    private fun with(name: String, change: (Float) -> Float): SelfTest {
        val tensor = result.getValue(name).copy()
        val values = tensor.floats()
        for (k in 0 until tensor.count) values.put(k, change(values.get(k)))
        return artifact.compared(result + (name to tensor))
    }

    @Test
    fun thisMachineTrainsAsPyTorchDoes() {
        val found = with("loss") { it }
        assertTrue("$found", found.passed && found.changeError > 0)
    }

    @Test
    fun errorsAreNoticed() {
        assertFalse(with("loss") { it * 1.01f }.passed)
        assertFalse(with("loss") { Float.NaN }.passed)
        assertFalse(with("end.head.weight") { it + 0.01f }.passed)
        assertFalse(with("end.head.weight") { Float.NaN }.passed)
    }
}
