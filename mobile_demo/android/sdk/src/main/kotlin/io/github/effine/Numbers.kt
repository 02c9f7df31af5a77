package io.github.effine

import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode

private const val MAX_DIGITS = 17

/** As Python writes a float: the shortest digits, an exponent below 1e-4 and from 1e16 on. */
internal fun shortest(value: Double): String {
    if (!value.isFinite()) throw FormatError("a number is NaN or infinite")
    if (value == 0.0) return if (1.0 / value < 0) "-0.0" else "0.0"
    val decimal = shortestDecimal(value)
    val digits = decimal.unscaledValue().abs().toString()
    val exponent = digits.length - 1 - decimal.scale()
    return (if (value < 0) "-" else "") + written(digits, exponent, -4, 16, ".0")
}

/** Rounded to some significant digits, as C's %.{digits}g. */
internal fun rounded(value: Double, digits: Int): String {
    if (value == 0.0) return "0"
    val decimal = BigDecimal(value).round(MathContext(digits, RoundingMode.HALF_EVEN)).stripTrailingZeros()
    val written = decimal.unscaledValue().abs().toString()
    val exponent = written.length - 1 - decimal.scale()
    return (if (value < 0) "-" else "") + written(written, exponent, -4, digits, "")
}

/** With some decimals, as C's %.{decimals}f. */
internal fun fixed(value: Double, decimals: Int): String =
    BigDecimal(value).setScale(decimals, RoundingMode.HALF_EVEN).toPlainString()

/** The decimal with the fewest digits that reads back as [value], and of those the closest. */
private fun shortestDecimal(value: Double): BigDecimal {
    val exact = BigDecimal(value)
    for (digits in 1..MAX_DIGITS) {
        val found = listOf(RoundingMode.DOWN, RoundingMode.UP)
            .map { exact.round(MathContext(digits, it)) }
            .filter { it.toDouble() == value }
            .minByOrNull { (it - exact).abs() }
        if (found != null) return found.stripTrailingZeros()
    }
    throw AssertionError("$MAX_DIGITS digits identify every double")
}

/** Plain from exponent [low] up to but not [high], else scientific; [whole] ends a whole number. */
private fun written(digits: String, exponent: Int, low: Int, high: Int, whole: String): String = when {
    exponent < low || exponent >= high -> {
        val fraction = if (digits.length > 1) "." + digits.substring(1) else ""
        val power = exponent.toString().removePrefix("-").padStart(2, '0')
        digits.substring(0, 1) + fraction + "e" + (if (exponent < 0) "-" else "+") + power
    }
    exponent < 0 -> "0." + "0".repeat(-exponent - 1) + digits
    digits.length <= exponent + 1 -> digits.padEnd(exponent + 1, '0') + whole
    else -> digits.substring(0, exponent + 1) + "." + digits.substring(exponent + 1)
}
