package io.github.effine.runner

import com.sun.management.ThreadMXBean
import io.github.effine.Artifact
import io.github.effine.DEFAULT_BOUND
import io.github.effine.Engine
import io.github.effine.Json
import io.github.effine.ProgramMethod
import io.github.effine.Progress
import io.github.effine.Settings
import io.github.effine.Trainer
import io.github.effine.canonical
import io.github.effine.readTokens
import java.io.File
import java.lang.management.BufferPoolMXBean
import java.lang.management.ManagementFactory
import org.pytorch.executorch.EValue
import org.pytorch.executorch.training.TrainingModule

/**
 * Times the updates of a run, and after each what its programs alone take, called again with the same buffers.
 *
 * Prints the seconds of both, what an update allocates on the heap, by how much direct memory grew
 * meanwhile, and the programs of the last update. Updates count from the second epoch on, in which
 * features come from the cache.
 */
internal fun bench(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--data", "--cache", "--steps", "--warmup", "--threads"))
    val artifact = Artifact.open(File(arguments.words.single()))
    val (steps, warmup) = (arguments.whole("--steps") ?: 30) to (arguments.whole("--warmup") ?: 10)
    val engine = RecordingEngine(artifact, arguments.whole("--threads"))
    val stopwatch = Stopwatch(engine, steps, warmup)
    Trainer(artifact, engine, File(arguments.text("--cache")), DEFAULT_BOUND, {}).use { trainer ->
        trainer.fit(readTokens(File(arguments.text("--data")), artifact), settings = Settings(epochs = 1 + warmup + steps)) {
            if (stopwatch.took(it)) trainer.cancel()
        }
    }
    println(stopwatch.result().canonical())
}

private class Call(val module: TrainingModule, val method: ProgramMethod, val inputs: Array<EValue>)

/** Remembers the calls of an update. */
private class RecordingEngine(artifact: Artifact, threads: Int?) : Engine(artifact, threads) {
    val calls = ArrayList<Call>()

    override fun execute(module: TrainingModule, method: ProgramMethod, inputs: Array<EValue>): Array<EValue> {
        calls += Call(module, method, inputs)
        return super.execute(module, method, inputs)
    }

    fun again() = calls.forEach { super.execute(it.module, it.method, it.inputs) }
}

private class Stopwatch(private val engine: RecordingEngine, private val steps: Int, private val warmup: Int) {
    private val step = ArrayList<Json>()
    private val bare = ArrayList<Json>()
    private var updates = 0
    private var heap = 0L
    private var direct = 0L
    private var programs = emptyList<String>()
    private var began = 0L
    private var allocated = 0L

    /** Called after an update or an epoch; whether enough were timed. */
    fun took(progress: Progress): Boolean {
        val ended = System.nanoTime()
        val more = allocatedBytes() - allocated
        if (progress.metrics == null && progress.epoch > 1) {
            if (updates == warmup) direct = directBytes()
            if (updates++ >= warmup) {
                heap += more
                step += seconds(began, ended)
                val again = System.nanoTime()
                engine.again()
                bare += seconds(again, System.nanoTime())
            } else {
                engine.again()
            }
            programs = engine.calls.map { it.method.name }
        }
        engine.calls.clear()
        allocated = allocatedBytes()
        began = System.nanoTime()
        return step.size == steps
    }

    fun result(): Json = Json.Table(
        mapOf(
            "step" to Json.Items(step),
            "bare" to Json.Items(bare),
            "heap" to Json.Whole(heap / step.size),
            "direct" to Json.Whole(directBytes() - direct),
            "programs" to Json.texts(programs),
        ),
    )

    private fun seconds(from: Long, to: Long): Json = Json.of((to - from) / 1e9)
}

private fun allocatedBytes(): Long =
    (ManagementFactory.getThreadMXBean() as ThreadMXBean).getThreadAllocatedBytes(Thread.currentThread().id)

private fun directBytes(): Long = ManagementFactory.getPlatformMXBeans(BufferPoolMXBean::class.java)
    .filter { it.name == "direct" }.sumOf { it.memoryUsed }
