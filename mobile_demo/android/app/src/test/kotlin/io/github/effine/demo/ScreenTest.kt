package io.github.effine.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.view.View
import android.view.View.MeasureSpec
import android.widget.FrameLayout
import io.github.effine.android.shippedBundle
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

private val READABLE = listOf(
    R.color.text to R.color.page,
    R.color.text to R.color.card,
    R.color.text to R.color.field,
    R.color.text_soft to R.color.page,
    R.color.text_soft to R.color.card,
    R.color.accent to R.color.card,
    R.color.on_accent to R.color.accent,
    R.color.on_accent_soft to R.color.accent_soft,
    R.color.fault to R.color.fault_soft,
)

/** The smallest contrast that WCAG 2.1 allows for text. */
private const val CONTRAST = 4.5

/** What the screen looks like where nothing trains. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = SIZE)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenTest {
    private val app: Context get() = RuntimeEnvironment.getApplication()

    @Test
    fun textIsReadableInTheLight() = checkContrast(dark = false)

    @Test
    @Config(qualifiers = "+night")
    fun textIsReadableInTheDark() = checkContrast(dark = true)

    private fun checkContrast(dark: Boolean) {
        assertEquals(dark, luminance(app.getColor(R.color.page)) < 0.2)
        for ((text, behind) in READABLE) {
            val (a, b) = luminance(app.getColor(text)) to luminance(app.getColor(behind))
            val contrast = (maxOf(a, b) + 0.05) / (minOf(a, b) + 0.05)
            val names = listOf(text, behind).joinToString(" on ", transform = app.resources::getResourceEntryName)
            assertTrue("$names: $contrast", contrast >= CONTRAST)
        }
    }

    private fun luminance(color: Int): Double = Color.luminance(color).toDouble()

    @Test
    fun withoutAWholeModelTheScreenSaysWhy() {
        if (app.assets.list("effine").orEmpty().isNotEmpty()) File(shippedBundle(app), "backbones").deleteRecursively()
        val phone = Phone()
        phone.until("refused") { fault != null }
        assertTrue(phone.view<View>(R.id.fault).isShown)
        assertEquals(phone.screen.fault, phone.text(R.id.fault_text))
        assertFalse(phone.screen.ready || phone.view<View>(R.id.train).isEnabled)
        phone.tap(R.id.fault_close)
        assertFalse(phone.view<View>(R.id.fault).isShown)
        phone.close()
    }

    @Test
    fun theCurveFallsAsTheLossDoes() {
        val curve = LossCurve(app, null)
        val accent = app.getColor(R.color.accent)
        curve.show(Training())
        assertEquals(0, drawn(curve, 600, 300).count(accent))
        val falling = (0 until 50).fold(Training()) { so, i -> so.after(i + 1, 100, 2.0 / (i + 1)) }
        curve.show(falling)
        val picture = drawn(curve, 600, 300)
        val columns = (0 until 600).filter { x -> (0 until 300).any { y -> picture.getPixel(x, y) == accent } }
        assertTrue("half of the updates, half of the width", columns.max() in 290..320)
        fun height(x: Int) = (0 until 300).first { y -> picture.getPixel(x, y) == accent }
        assertTrue(height(columns.max() - 5) > height(columns.min() + 5) + 50)
        assertTrue(curve.contentDescription.contains("50 steps"))
    }

    @Test
    fun aTrainingThatGoesOnLaterBeginsWhereItStopped() {
        val resumed = Training().after(41, 100, 0.5).after(42, 100, 0.4).after(43, 100, null)
        assertEquals(40, resumed.before)
        assertEquals(43, resumed.update)
        assertEquals(listOf(0.5f, 0.4f, 0.4f), resumed.losses)
        assertEquals(listOf(1f), resumed.after(1, 30, 1.0).losses)
        assertEquals(listOf(1f, 1f, 1f), smoothed(listOf(1f, 1f, 1f)))
    }

    @Test
    fun chipsGoToTheNextLineWhenOneIsFull() {
        val flow = FlowLayout(app, null)
        repeat(5) { flow.addView(View(app), FrameLayout.LayoutParams(100, 40)) }
        drawn(flow, 340, 200)
        val places = (0 until 5).map { flow.getChildAt(it) }
        assertEquals(2, places.map { it.top }.distinct().size)
        assertEquals(places.first().left, places.last { it.top > 0 && it.left == 0 }.left)
        assertTrue(places.all { it.right <= 340 })
    }

    private fun drawn(view: View, width: Int, height: Int): Bitmap {
        view.measure(
            MeasureSpec.makeMeasureSpec(width, MeasureSpec.EXACTLY),
            MeasureSpec.makeMeasureSpec(height, MeasureSpec.EXACTLY),
        )
        view.layout(0, 0, width, height)
        return Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888).also { view.draw(Canvas(it)) }
    }

    private fun Bitmap.count(color: Int): Int =
        (0 until width).sumOf { x -> (0 until height).count { y -> getPixel(x, y) == color } }
}
