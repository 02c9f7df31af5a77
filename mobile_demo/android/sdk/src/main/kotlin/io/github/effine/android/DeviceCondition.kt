package io.github.effine.android

import android.content.Context
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock

private const val LOW_PERCENT = 15
private const val MILLISECONDS_BETWEEN = 1000L

/** Whether the device should rather not train now, although it is charging and idle. */
internal class DeviceCondition(context: Context) {
    private val power = context.getSystemService(PowerManager::class.java)
    private val battery = context.getSystemService(BatteryManager::class.java)
    private var asked: Long? = null
    private var resting = false

    /** Too hot, or the battery low in spite of the charger; the system is asked once a second at most. */
    fun mustRest(): Boolean {
        val now = SystemClock.elapsedRealtime()
        if (asked.let { it == null || now - it >= MILLISECONDS_BETWEEN }) {
            asked = now
            resting = isHot() || isLow()
        }
        return resting
    }

    /** Before Android 10 the system doesn't tell. */
    private fun isHot(): Boolean = Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q &&
        power.currentThermalStatus >= PowerManager.THERMAL_STATUS_MODERATE

    /** Devices that don't know the level answer with zero or less. */
    private fun isLow(): Boolean =
        battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY) in 1 until LOW_PERCENT
}
