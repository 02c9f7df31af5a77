package io.github.effine

import java.util.concurrent.Callable
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.Future

/** One thread for all training of the process, so that two trainings never compete for the cores. */
object TrainingThread {
    private val executor: ExecutorService = Executors.newSingleThreadExecutor { task ->
        Thread(task, "effine-training").apply { isDaemon = true }
    }

    /** Runs a task after those submitted before; callbacks of a trainer inside come on this thread. */
    fun <T> submit(task: () -> T): Future<T> = executor.submit(Callable { task() })
}
