package io.github.effine

/** A data set and how often a run goes through it. */
internal class Passes(val samples: List<Tokens>, val count: Int)

/**
 * A sample as the estimate sees it.
 *
 * @property padded the sequence length at which its features are computed.
 * @property size bytes of its record.
 * @property uses how often a run needs its features.
 * @property stored whether the cache holds them already.
 */
internal class CachedSample(val tokens: Tokens, val padded: Int, val size: Int, val uses: Int, val stored: Boolean)

/** Seconds to compute features, per padded token, and to store and read them, per byte. */
internal class CacheSpeed(val compute: Double, val store: Double, val read: Double)

/**
 * What a feature cache will save over a run, as a line for people; see effine.runtime.break_even.
 *
 * @param samples in the order in which they are stored until the bound is reached.
 * @param size bytes of the file before the run.
 */
internal fun estimate(samples: List<CachedSample>, size: Long, bound: Long, speed: CacheSpeed): String {
    var (end, fitting) = size to 0
    var (seconds, saved) = 0.0 to 0.0
    for (sample in samples) {
        val compute = speed.compute * sample.padded
        seconds += compute * sample.uses
        if (!sample.stored && end + sample.size > bound) continue
        fitting++
        if (!sample.stored) {
            end += sample.size
            saved -= speed.store * sample.size
        }
        saved += (sample.uses - if (sample.stored) 0 else 1) * (compute - speed.read * sample.size)
    }
    val part = if (fitting == samples.size) "" else "${grouped(fitting)} of "
    val shown = if (saved > 0) "about ${twoDigits(saved)} s" else "nothing"
    return "${megabytes(end)} for $part${grouped(samples.size)} samples, saves $shown of ${twoDigits(seconds)} s"
}

/** Such as 34 MB. */
internal fun megabytes(size: Long): String = "${twoDigits(size / 1e6)} MB"

/** Such as 1,000. */
internal fun grouped(number: Int): String = number.toString().reversed().chunked(3).joinToString(",").reversed()

/** Two digits behind the point below ten, none above. */
private fun twoDigits(value: Double): String =
    if (value < 10) fixed(value, 2) else grouped(fixed(value, 0).toInt())
