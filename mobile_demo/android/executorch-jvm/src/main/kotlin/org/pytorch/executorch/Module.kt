package org.pytorch.executorch

import java.io.Closeable

/** Of the stock class effine needs only that loading a program sizes the process's thread pool. */
class Module private constructor() : Closeable {
    override fun close() = Unit

    companion object {
        const val LOAD_MODE_MMAP = 1

        @JvmStatic
        fun load(modelPath: String?, loadMode: Int, numThreads: Int): Module {
            require(modelPath != null && loadMode == LOAD_MODE_MMAP)
            Bridge.setThreads(numThreads)
            return Module()
        }
    }
}
