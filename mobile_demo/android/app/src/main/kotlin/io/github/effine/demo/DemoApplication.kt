package io.github.effine.demo

import android.app.Application

/** Keeps the assistant, which outlives every screen. */
class DemoApplication : Application() {
    val assistant by lazy { Assistant(this) }
}
