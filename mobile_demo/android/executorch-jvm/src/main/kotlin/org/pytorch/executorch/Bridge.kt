package org.pytorch.executorch

import java.nio.Buffer

class ExecutorchRuntimeException(message: String) : RuntimeException(message)

/** The native half, from the library that the system property `effine.bridge` names. */
internal object Bridge {
    init {
        val library = System.getProperty("effine.bridge")
        System.load(checkNotNull(library) { "-Deffine.bridge=LIBRARY is missing" })
    }

    external fun setThreads(count: Int)

    external fun load(program: String, weights: String?): Long

    external fun close(handle: Long)

    external fun execute(
        handle: Long,
        method: String,
        data: Array<Buffer>,
        shapes: Array<LongArray>,
        codes: IntArray,
    ): Array<EValue>
}
