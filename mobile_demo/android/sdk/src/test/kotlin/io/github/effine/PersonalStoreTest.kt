package io.github.effine

import java.io.File
import java.util.concurrent.CountDownLatch
import kotlin.concurrent.thread
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class PersonalStoreTest {
    @get:Rule
    val temporary = TemporaryFolder()
    private val folder by lazy { File(temporary.root, "models/one") }
    private val store by lazy { PersonalStore.of(folder) }

    @Test
    fun `a change is there for everyone, whoever made it`() {
        assertSame(store, PersonalStore.of(File(folder, "../one")))
        assertTrue(store.read().examples.isEmpty())
        assertFalse(folder.exists())
        store.change { it.add(listOf(Example("a", "b"))) }
        assertEquals(1, store.read().examples.size)
        assertSame(store.read(), store.read())
        val other = store.read().add(listOf(Example("c", "d"))).toJson().canonical()
        File(folder, "other").writeText(other)
        assertTrue(File(folder, "other").renameTo(File(folder, "store.json")))
        assertEquals(2, store.read().examples.size)
    }

    @Test
    fun `many threads lose nothing`() {
        (1..4).map { i -> thread { repeat(5) { j -> store.change { it.add(listOf(Example("$i $j", "x"))) } } } }.forEach { it.join() }
        assertEquals((1L..20L).toList(), store.read().examples.map { it.id })
    }

    @Test
    fun `a failed change changes nothing, and damage is named`() {
        store.change { it.copy(labels = listOf("a")) }
        assertThrows(DataError::class.java) { store.change { throw DataError("no") } }
        assertEquals(listOf("a"), store.read().labels)
        File(folder, "store.json").writeText("{}")
        val error = assertThrows(StateError::class.java) { store.read() }
        assertTrue(error.message!!, "store.json" in error.message!!)
    }

    @Test
    fun `files that nothing needs go, but not while something trains`() {
        store.change { it.copy(states = listOf(LearnedState(0, 0), LearnedState(2, 0)), run = OpenRun(5, 4, 1, 0, null, "")) }
        val kept = listOf("state-2.ckpt", "state-4.ckpt", "state-5.ckpt", "features-0.cache", "mine.txt")
        val unneeded = listOf("state-1.ckpt", "features-1.cache", ".store.json.12ab.tmp", ".state-5.ckpt.9.tmp")
        for (name in kept + unneeded) File(folder, name).writeText("x")
        store.training.tryHold({ }) { store.sweep() }
        assertTrue(unneeded.all { File(folder, it).exists() })
        store.sweep()
        assertEquals((kept + listOf("store.json", "store.lock", "training.lock")).toSet(), folder.list()!!.toSet())
    }

    @Test
    fun `one trains at a time`() {
        val (inside, done) = CountDownLatch(1) to CountDownLatch(1)
        val trainer = thread {
            store.training.tryHold({ }) {
                inside.countDown()
                done.await()
            }
        }
        inside.await()
        assertFalse(store.training.tryHold({ false }) { true })
        done.countDown()
        trainer.join()
        assertTrue(store.training.tryHold({ false }) { store.training.tryHold({ true }) { false } })
    }
}
