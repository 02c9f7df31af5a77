package io.github.effine

private const val BLOCK = 128
private const val LANES = 8

/** The sum in the order of numpy's pairwise summation, which the Python runtime uses. */
internal fun pairwiseSum(values: FloatArray, start: Int = 0, size: Int = values.size): Float {
    if (size > BLOCK) {
        val half = size / 2 / LANES * LANES
        return pairwiseSum(values, start, half) + pairwiseSum(values, start + half, size - half)
    }
    if (size < LANES) {
        var total = 0f
        for (i in start until start + size) total += values[i]
        return total
    }
    val part = values.copyOfRange(start, start + LANES)
    var i = LANES
    while (i + LANES <= size) {
        for (k in 0 until LANES) part[k] += values[start + i + k]
        i += LANES
    }
    var total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))
    while (i < size) total += values[start + i++]
    return total
}

/** The same in binary64. */
internal fun pairwiseSum(values: DoubleArray, start: Int = 0, size: Int = values.size): Double {
    if (size > BLOCK) {
        val half = size / 2 / LANES * LANES
        return pairwiseSum(values, start, half) + pairwiseSum(values, start + half, size - half)
    }
    if (size < LANES) {
        var total = 0.0
        for (i in start until start + size) total += values[i]
        return total
    }
    val part = values.copyOfRange(start, start + LANES)
    var i = LANES
    while (i + LANES <= size) {
        for (k in 0 until LANES) part[k] += values[start + i + k]
        i += LANES
    }
    var total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))
    while (i < size) total += values[start + i++]
    return total
}
