package io.github.effine.android

import android.Manifest
import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.app.job.JobService
import android.content.ComponentName
import android.content.Context
import android.content.pm.PackageManager
import io.github.effine.BusyError
import io.github.effine.Personalization
import io.github.effine.Progress
import io.github.effine.TrainingThread
import io.github.effine.UpdateReport
import java.io.File

/**
 * Updates a model in the background, only while the device is charging and idle, in slices that end
 * with a checkpoint: when their time is over, when the system takes the job away, and when the device
 * gets hot or its battery low. The job comes back until the model is up to date.
 *
 * An app declares its subclass as a service with the permission `android.permission.BIND_JOB_SERVICE`,
 * and calls [schedule] when it has something to learn and when it starts.
 */
abstract class TrainingJob : JobService() {
    /** Opens the model to update; called on the training thread, and closed by this class. */
    protected abstract fun open(): Personalization

    /** How long a slice lasts at most; the system grants ten minutes, which scoring must fit into too. */
    protected open val sliceMilliseconds: Long get() = 8 * 60_000L

    /** Called after every update of the state, on the training thread. */
    protected open fun onProgress(progress: Progress) {}

    /** Called when a slice has ended, on the training thread. */
    protected open fun onReport(report: UpdateReport) {}

    /** Called when a slice has failed, on the training thread; the job doesn't come back by itself then. */
    protected open fun onError(error: Exception) {}

    private var slice: Slice? = null

    final override fun onStartJob(parameters: JobParameters): Boolean {
        val slice = Slice(parameters).also { slice = it }
        TrainingThread.submit { slice.run() }
        return true
    }

    final override fun onStopJob(parameters: JobParameters): Boolean {
        slice?.stopped = true
        return true
    }

    private inner class Slice(private val parameters: JobParameters) {
        @Volatile
        var stopped = false

        fun run() {
            var again = false
            try {
                again = stopped || open().use { train(it) }
            } catch (_: BusyError) {
                again = true
            } catch (error: Exception) {
                onError(error)
            } finally {
                if (!stopped) jobFinished(parameters, again)
            }
        }

        /** Returns whether something is left to do. */
        private fun train(model: Personalization): Boolean {
            val device = DeviceCondition(this@TrainingJob)
            if (!model.due || device.mustRest()) return model.due
            val report = model.update(sliceMilliseconds) { progress ->
                onProgress(progress)
                if (stopped || device.mustRest()) model.cancel()
            }
            onReport(report)
            return model.due
        }
    }

    companion object {
        /**
         * Schedules a job in place of one with the same id; if that is running, its slice ends. It outlives
         * a restart of the device if the app may know of restarts (`RECEIVE_BOOT_COMPLETED`).
         */
        fun schedule(context: Context, job: Class<out TrainingJob>, id: Int) {
            val restarts = context.checkSelfPermission(Manifest.permission.RECEIVE_BOOT_COMPLETED)
            val info = JobInfo.Builder(id, ComponentName(context, job))
                .setRequiresCharging(true)
                .setRequiresDeviceIdle(true)
                .setPersisted(restarts == PackageManager.PERMISSION_GRANTED)
                .build()
            context.getSystemService(JobScheduler::class.java).schedule(info)
        }

        /** Where a model lives, outside of backups. */
        fun folder(context: Context, name: String): File = File(context.noBackupFilesDir, "effine/$name")
    }
}
