package org.pytorch.executorch

import java.nio.ByteBuffer

/** A value that goes into a program or comes out of it; here always a tensor. */
class EValue private constructor(private val tensor: Tensor) {
    fun isTensor(): Boolean = true

    fun toTensor(): Tensor = tensor

    companion object {
        @JvmStatic
        fun from(value: Tensor): EValue = EValue(value)

        /** Called by the bridge. */
        @JvmStatic
        fun over(memory: ByteBuffer, shape: LongArray, code: Int): EValue =
            EValue(Tensor.over(memory, shape, code))
    }
}
