package io.github.effine.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.LinearGradient
import android.graphics.Paint
import android.graphics.Path
import android.graphics.Shader
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View

private const val GRID_LINES = 4
private const val SMOOTHING = 0.85f
private const val HEADROOM = 1.1f

/** The losses of a training's updates so far, over the width of all updates: as they are, and smoothed. */
class LossCurve(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private var training = Training()
    private val accent = context.getColor(R.color.accent)
    private val grid = stroke(context.getColor(R.color.outline), 1f)
    private val raw = stroke(accent, 1.5f).apply { alpha = 70 }
    private val line = stroke(accent, 2.5f)
    private val fill = Paint()
    private val dot = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = accent }
    private val label = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.text_soft)
        textSize = dp(12f, TypedValue.COMPLEX_UNIT_SP)
    }

    fun show(training: Training) {
        this.training = training
        val last = training.losses.lastOrNull()
        contentDescription = if (last == null) {
            context.getString(R.string.curve_empty)
        } else {
            context.getString(R.string.curve, training.update, last)
        }
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val (top, bottom) = label.textSize * 1.6f to height - dp(6f)
        for (i in 0..GRID_LINES) {
            val y = bottom - (bottom - top) * i / GRID_LINES
            canvas.drawLine(0f, y, width.toFloat(), y, grid)
        }
        if (training.losses.isEmpty()) {
            drawEmpty(canvas, (top + bottom) / 2)
        } else {
            drawCurves(canvas, top, bottom)
        }
    }

    private fun drawEmpty(canvas: Canvas, middle: Float) {
        val text = context.getString(R.string.curve_empty)
        val half = label.measureText(text) / 2
        val behind = Paint().apply { color = context.getColor(R.color.card) }
        val (x, margin) = width / 2f to dp(8f)
        canvas.drawRect(x - half - margin, middle - label.textSize, x + half + margin, middle + label.textSize, behind)
        canvas.drawText(text, x - half, middle + label.textSize / 3, label)
    }

    private fun drawCurves(canvas: Canvas, top: Float, bottom: Float) {
        val losses = training.losses
        val highest = maxOf(losses.max(), 1e-3f) * HEADROOM
        fun x(index: Int) = dp(4f) + (width - dp(10f)) * (training.before + index + 1) / training.total
        fun y(loss: Float) = bottom - (bottom - top) * loss / highest
        fun path(values: List<Float>) = Path().apply {
            values.forEachIndexed { i, loss -> if (i == 0) moveTo(x(i), y(loss)) else lineTo(x(i), y(loss)) }
        }
        val smooth = smoothed(losses)
        val area = path(smooth).apply {
            lineTo(x(smooth.lastIndex), bottom)
            lineTo(x(0), bottom)
            close()
        }
        val faint = accent and 0x00FFFFFF
        fill.shader = LinearGradient(0f, top, 0f, bottom, faint or (0x50 shl 24), faint, Shader.TileMode.CLAMP)
        canvas.drawPath(area, fill)
        canvas.drawPath(path(losses), raw)
        canvas.drawPath(path(smooth), line)
        canvas.drawCircle(x(smooth.lastIndex), y(smooth.last()), dp(4.5f), dot)
        canvas.drawText(context.getString(R.string.curve_title), 0f, label.textSize, label)
        val scale = "%.1f".format(highest)
        canvas.drawText(scale, width - label.measureText(scale), label.textSize, label)
    }

    private fun stroke(color: Int, dp: Float) = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        this.color = color
        style = Paint.Style.STROKE
        strokeWidth = dp(dp)
        strokeJoin = Paint.Join.ROUND
        strokeCap = Paint.Cap.ROUND
    }

    private fun dp(value: Float, unit: Int = TypedValue.COMPLEX_UNIT_DIP): Float =
        TypedValue.applyDimension(unit, value, resources.displayMetrics)
}

/** Exponential means whose first values aren't drawn towards zero. */
internal fun smoothed(losses: List<Float>): List<Float> {
    var (sum, weight) = 0f to 0f
    return losses.map { loss ->
        sum = SMOOTHING * sum + (1 - SMOOTHING) * loss
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        sum / weight
    }
}
