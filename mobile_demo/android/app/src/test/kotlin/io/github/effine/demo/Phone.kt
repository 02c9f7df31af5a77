package io.github.effine.demo

import android.app.AlertDialog
import android.content.DialogInterface
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.view.View
import android.view.View.MeasureSpec
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.TextView
import java.io.File
import java.time.Duration
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowAlertDialog

internal const val SIZE = "w411dp-h891dp-xhdpi"
private const val PATIENCE_MS = 240_000L
private const val MOMENT_MS = 5L

/** The app as its user has it: the real screen, typed on, tapped and looked at. */
internal class Phone {
    private val controller = Robolectric.buildActivity(DemoActivity::class.java).setup()
    val activity: DemoActivity = controller.get()
    val assistant: Assistant get() = (activity.application as DemoApplication).assistant
    val screen: Screen get() = assistant.screen

    /** Waits for what happens on other threads; what they report is shown piece by piece. */
    fun until(what: String, condition: Screen.() -> Boolean) {
        val main = shadowOf(Looper.getMainLooper())
        val end = System.currentTimeMillis() + PATIENCE_MS
        while (!screen.condition()) {
            assertTrue("$what: not within $PATIENCE_MS ms", System.currentTimeMillis() < end)
            assertNull(what, screen.fault)
            if (main.isIdle) Thread.sleep(MOMENT_MS) else main.runOneTask()
        }
    }

    fun type(sentence: String) {
        view<EditText>(R.id.sentence).setText(sentence)
        shadowOf(Looper.getMainLooper()).idleFor(Duration.ofSeconds(1))
    }

    fun tap(id: Int) {
        val view = view<View>(id)
        assertTrue("can't be tapped", view.isShown && view.isEnabled)
        view.performClick()
    }

    /** Taps the chip of an intent, or another that says this. */
    fun tapChip(label: String) {
        val chips = view<ViewGroup>(R.id.intents)
        (0 until chips.childCount).map { chips.getChildAt(it) as Button }.first { it.text == label }.performClick()
    }

    /** The dialog on top. */
    val dialog: AlertDialog get() = ShadowAlertDialog.getLatestAlertDialog()

    fun confirm() {
        dialog.getButton(DialogInterface.BUTTON_POSITIVE).performClick()
        shadowOf(Looper.getMainLooper()).idle()
    }

    fun text(id: Int): String = view<TextView>(id).text.toString()

    fun <T : View> view(id: Int): T = activity.findViewById(id)

    /** What the screen looks like; also a file where pictures are wanted. */
    fun picture(name: String): Bitmap {
        val window = activity.window.decorView
        window.measure(exactly(window.width), exactly(window.height))
        window.layout(0, 0, window.width, window.height)
        val picture = Bitmap.createBitmap(window.width, window.height, Bitmap.Config.ARGB_8888)
        window.draw(Canvas(picture))
        System.getProperty("effine.pictures")?.let { folder ->
            File(folder, "$name.png").outputStream().use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        }
        return picture
    }

    private fun exactly(size: Int) = MeasureSpec.makeMeasureSpec(size, MeasureSpec.EXACTLY)

    fun close() {
        controller.pause().stop().destroy()
    }
}

/** Skips a test where the app is built without a model. */
internal fun assumeModel() {
    val assets = RuntimeEnvironment.getApplication().assets
    assumeTrue("the app's assets hold no model", assets.list("effine").orEmpty().isNotEmpty())
}
