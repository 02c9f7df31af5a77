package io.github.effine

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class TensorFileTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val tensors = linkedMapOf(
        "z" to Tensor.floats(listOf(2, 3), FloatArray(6) { it / 3f }),
        "a" to Tensor(DType.I64, listOf(2)).also { it.longs().put(1, -7) },
        "bytes" to Tensor(DType.U8, listOf(3)),
        "scalar" to Tensor(DType.F64, emptyList()),
    )

    private fun raw(header: String, data: ByteArray = ByteArray(0)): File {
        val text = header.toByteArray()
        val content = ByteBuffer.allocate(8 + text.size + data.size).order(ByteOrder.LITTLE_ENDIAN)
        content.putLong(text.size.toLong()).put(text).put(data)
        return folder.newFile().also { it.writeBytes(content.array()) }
    }

    private fun refused(file: File): String {
        val error = assertThrows(StateError::class.java) { TensorFile.read(file) }
        assertTrue(error.message!!.startsWith("$file: not a usable safetensors file: "))
        return error.message!!
    }

    @Test
    fun `a file keeps bits, order and metadata`() {
        val file = File(folder.root, "x.safetensors")
        TensorFile(tensors, mapOf("zeta" to "gr\u00f6\u00dfe \"x\"\n", "alpha" to "12")).write(file)
        val read = TensorFile.read(file)
        assertEquals(tensors.keys.toList(), read.tensors.keys.toList())
        assertTrue(tensors.all { (name, tensor) -> tensor.sameBits(read.tensors.getValue(name)) })
        val again = File(folder.root, "again")
        TensorFile(read.tensors, read.metadata).write(again)
        assertArrayEquals(file.readBytes(), again.readBytes())
        assertEquals(listOf("again", "x.safetensors"), folder.root.list()!!.sorted())
    }

    @Test
    fun `data start at a multiple of 64 bytes`() {
        val file = File(folder.root, "x")
        TensorFile(mapOf("a" to Tensor.scalar(1f)), mapOf("k" to "v")).write(file)
        val bytes = file.readBytes()
        assertEquals(4, bytes.size % 64)
        assertArrayEquals(byteArrayOf(0, 0, 0x80.toByte(), 0x3f), bytes.copyOfRange(bytes.size - 4, bytes.size))
    }

    @Test
    fun `a bad header is refused`() {
        val good = """{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"""
        val cases = listOf(
            "{nonsense" to 0, "[]" to 0, " {}" to 0, """{"a":$good,"a":$good}""" to 4, """{"a":$good,"b":$good}""" to 4,
            """{"a":$good}""" to 5, """{"a":$good}""" to 3, """{"a":${good.replace("F32", "BF16")}}""" to 4,
            """{"a":${good.replace("[1]", "[2]")}}""" to 4, """{"a":${good.replace("[1]", "[-1]")}}""" to 4,
            """{"a":${good.replace("[1]", "[true]")}}""" to 4, """{"a":${good.replace("0,4", "4,8")}}""" to 8,
            """{"a":${good.replace("0,4", "4,0")}}""" to 4, """{"a":${good.replace("0,4", "0,4.0")}}""" to 4,
            """{"a":${good.replace("[1]", "[1000000,1000000]")}}""" to 4, """{"":$good}""" to 4,
            """{"a":${good.replace("}", ",\"extra\":1}")}}""" to 4, """{"__metadata__":{"a":1}}""" to 0,
        )
        for ((header, size) in cases) refused(raw(header, ByteArray(size)))
    }

    @Test
    fun `a file without a whole header is refused`() {
        for (content in listOf(byteArrayOf(), byteArrayOf(1), ByteArray(8) { -1 }, byteArrayOf(50, 0, 0, 0, 0, 0, 0, 0, 123))) {
            refused(folder.newFile().also { it.writeBytes(content) })
        }
        assertTrue("not UTF-8" in refused(folder.newFile().also { it.writeBytes(byteArrayOf(2, 0, 0, 0, 0, 0, 0, 0, 123, -1)) }))
    }

    @Test
    fun `values that aren't finite are neither read nor written`() {
        val header = """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"""
        assertTrue("'a' holds NaN" in refused(raw(header, byteArrayOf(0, 0, 0xc0.toByte(), 0x7f))))
        val file = folder.newFile().also { it.writeText("before") }
        assertThrows(StateError::class.java) { TensorFile(mapOf("a" to Tensor.scalar(Float.NaN)), emptyMap()).write(file) }
        assertEquals("before", file.readText())
    }

    @Test
    fun `a folder isn't replaced and an abandoned file is removed`() {
        val target = folder.newFolder("x")
        val tensors = TensorFile(mapOf("a" to Tensor.scalar(1f)), emptyMap())
        assertThrows(StateError::class.java) { tensors.write(target) }
        val abandoned = folder.newFile(".y.1234.tmp").also { it.setLastModified(1000) }
        tensors.write(File(folder.root, "y"))
        assertTrue(!abandoned.exists())
    }
}
