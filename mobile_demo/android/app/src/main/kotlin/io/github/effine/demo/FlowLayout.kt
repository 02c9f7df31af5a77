package io.github.effine.demo

import android.content.Context
import android.util.AttributeSet
import android.view.View
import android.view.ViewGroup

private const val GAP_DP = 8

/** Lays its children out like words of a text: side by side, in as many lines as they need. */
class FlowLayout(context: Context, attributes: AttributeSet?) : ViewGroup(context, attributes) {
    private val gap = (GAP_DP * resources.displayMetrics.density).toInt()

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        measureChildren(widthSpec, heightSpec)
        val width = MeasureSpec.getSize(widthSpec)
        val height = place(width) { _, _, _ -> }
        setMeasuredDimension(width, resolveSize(height, heightSpec))
    }

    override fun onLayout(changed: Boolean, left: Int, top: Int, right: Int, bottom: Int) {
        val mirrored = layoutDirection == LAYOUT_DIRECTION_RTL
        place(right - left) { child, x, y ->
            val start = if (mirrored) right - left - x - child.measuredWidth else x
            child.layout(start, y, start + child.measuredWidth, y + child.measuredHeight)
        }
    }

    /** Hands every visible child its place, and returns the height of all lines. */
    private fun place(width: Int, put: (View, Int, Int) -> Unit): Int {
        var (x, y, line) = Triple(0, 0, 0)
        for (child in (0 until childCount).map(::getChildAt).filter { it.visibility != GONE }) {
            if (x > 0 && x + child.measuredWidth > width) {
                x = 0
                y += line + gap
                line = 0
            }
            put(child, x, y)
            x += child.measuredWidth + gap
            line = maxOf(line, child.measuredHeight)
        }
        return y + line
    }
}
