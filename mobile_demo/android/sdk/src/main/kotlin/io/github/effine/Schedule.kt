package io.github.effine

import kotlin.math.ceil

internal val SCHEDULES = arrayOf("constant", "linear", "cosine")

private val COEFFICIENTS = doubleArrayOf(
    3.141592653589793, -5.16771278004997, 2.5501640398773455, -0.5992645293207921, 0.08214588661112823,
    -0.0073704309457143504, 0.00046630280576761255, -2.1915353447830217e-05, 7.952054001475513e-07,
    -2.2948428997269873e-08,
)

/**
 * The learning rate of an update, counted from 0: binary64 in the order written, rounded once.
 *
 * @param warmup share of the updates that warm up.
 */
internal fun rate(schedule: String, peak: Double, update: Int, total: Int, warmup: Double): Float {
    val warm = ceil(warmup * total).toInt()
    if (update < warm) return (peak * (update + 1) / warm).toFloat()
    val progress = (update - warm).toDouble() / maxOf(1, total - warm)
    return when (schedule) {
        "linear" -> peak * (1.0 - progress)
        "cosine" -> peak * 0.5 * (1.0 + cosPi(progress))
        else -> peak
    }.toFloat()
}

/** The cosine of pi * p for p from 0 to 1, by a polynomial and not by the system's library. */
internal fun cosPi(p: Double): Double {
    val x = p - 0.5
    val z = x * x
    var s = COEFFICIENTS.last()
    for (k in COEFFICIENTS.size - 2 downTo 0) s = s * z + COEFFICIENTS[k]
    return -(s * x)
}
