package io.github.effine.android

import android.app.job.JobInfo
import android.app.job.JobParameters
import android.app.job.JobService
import android.content.Context
import io.github.effine.Personalization
import io.github.effine.Progress
import io.github.effine.UpdateReport
import java.io.File

/**
 * Updates a model in the background, only while the device is charging and idle, in slices that end
 * with a checkpoint. An app declares its subclass in the manifest with the permission
 * `android.permission.BIND_JOB_SERVICE`, and calls [schedule] when it has examples to learn and when
 * it starts.
 */
abstract class TrainingJob : JobService() {
    /** Opens the model to update; called on the training thread, and closed by this class. */
    protected abstract fun open(): Personalization

    /** How long a slice lasts at most; the system grants ten minutes. */
    protected open val sliceMilliseconds: Long get() = 8 * 60_000L

    /** Called after every update of the state, on the training thread. */
    protected open fun onProgress(progress: Progress) {}

    /** Called when a slice has ended, on the training thread. */
    protected open fun onReport(report: UpdateReport) {}

    /** Called when a slice failed; the job isn't tried again before the next [schedule]. */
    protected open fun onError(error: Exception) {}

    override fun onStartJob(parameters: JobParameters): Boolean = TODO()

    override fun onStopJob(parameters: JobParameters): Boolean = TODO()

    companion object {
        /** Schedules a job, in place of one with the same id. */
        fun schedule(context: Context, job: Class<out TrainingJob>, id: Int): Unit = TODO()

        /** What the system is asked for. */
        internal fun info(context: Context, job: Class<out TrainingJob>, id: Int): JobInfo = TODO()

        /** Where a model lives: never in a backup. */
        fun folder(context: Context, name: String): File = TODO()
    }
}
