package io.github.effine.android

import android.app.job.JobParameters
import android.app.job.JobScheduler
import android.content.Context
import android.os.BatteryManager
import android.os.PowerManager
import io.github.effine.Outcome
import io.github.effine.Personalization
import io.github.effine.Progress
import io.github.effine.TinyArtifact
import io.github.effine.TrainingThread
import io.github.effine.UpdateReport
import java.io.File
import java.time.Duration
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowSystemClock

/** Tells what happened to it, and does what a test asks for while it trains. */
class SampleJob : TrainingJob() {
    val reports = ArrayList<UpdateReport>()
    val errors = ArrayList<Exception>()
    var during: (Progress) -> Unit = {}

    public override fun open() = openSample(this)

    override fun onProgress(progress: Progress) = during(progress)

    override fun onReport(report: UpdateReport) {
        reports += report
    }

    override fun onError(error: Exception) {
        errors += error
    }
}

private fun openSample(context: Context) =
    Personalization(TrainingJob.folder(context, "sample"), TinyArtifact.artifact, TinyArtifact.plan)

/** The system's side is Robolectric's, the training is real. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34])
class TrainingJobTest {
    private val context = RuntimeEnvironment.getApplication()
    private val power = context.getSystemService(PowerManager::class.java)
    private val battery = context.getSystemService(BatteryManager::class.java)
    private val parameters = Shadow.newInstanceOf(JobParameters::class.java)
    private val folder = TrainingJob.folder(context, "sample")

    @Before
    fun `the battery is charged`() = setBattery(90)

    private fun setBattery(percent: Int) =
        shadowOf(battery).setIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY, percent)

    private fun setHeat(status: Int) = shadowOf(power).setCurrentThermalStatus(status)

    private fun teach() = openSample(context).use { it.add(TinyArtifact.sentences) }

    /** Runs a slice to its end. */
    private fun slice(during: (SampleJob, Progress) -> Unit = { _, _ -> }): SampleJob {
        val job = Robolectric.buildService(SampleJob::class.java).create().get()
        job.during = { during(job, it) }
        assertTrue(job.onStartJob(parameters))
        TrainingThread.submit { }.get()
        return job
    }

    private val SampleJob.finished get() = shadowOf(this).isJobFinished
    private val SampleJob.comesBack get() = shadowOf(this).isRescheduleNeeded

    private fun state() = File(folder, "state-1.ckpt").readBytes()

    @Test
    fun `the system is asked for a charging and idle device`() {
        repeat(2) { TrainingJob.schedule(context, SampleJob::class.java, 7) }
        val job = context.getSystemService(JobScheduler::class.java).allPendingJobs.single()
        assertEquals(7, job.id)
        assertEquals(SampleJob::class.java.name, job.service.className)
        assertTrue(job.isRequireCharging && job.isRequireDeviceIdle)
        assertFalse(job.isPersisted)
        assertEquals(context.noBackupFilesDir, folder.parentFile!!.parentFile)
    }

    @Test
    fun `a job trains until nothing is left to learn`() {
        teach()
        val job = slice()
        assertEquals(listOf(Outcome.ACCEPTED), job.reports.map { it.outcome })
        assertTrue(job.finished && !job.comesBack && job.errors.isEmpty())
        val idle = slice()
        assertTrue(idle.finished && !idle.comesBack && idle.reports.isEmpty())
    }

    @Test
    fun `heat and a low battery end a slice, and the next ones make the same state`() {
        teach()
        slice()
        val whole = state()
        openSample(context).use { it.reset() }
        setHeat(PowerManager.THERMAL_STATUS_SEVERE)
        val hot = slice()
        assertTrue(hot.finished && hot.comesBack && hot.reports.isEmpty())
        setHeat(PowerManager.THERMAL_STATUS_LIGHT)
        val heating = slice { _, progress ->
            if (progress.update == 4) setHeat(PowerManager.THERMAL_STATUS_MODERATE)
            ShadowSystemClock.advanceBy(Duration.ofSeconds(2))
        }
        setHeat(PowerManager.THERMAL_STATUS_NONE)
        val emptying = slice { _, progress ->
            if (progress.update == 8) setBattery(5)
            ShadowSystemClock.advanceBy(Duration.ofSeconds(2))
        }
        for (job in listOf(heating, emptying)) {
            assertEquals(listOf(Outcome.PAUSED), job.reports.map { it.outcome })
            assertTrue(job.finished && job.comesBack)
        }
        setBattery(90)
        assertEquals(listOf(Outcome.ACCEPTED), slice().reports.map { it.outcome })
        assertArrayEquals(whole, File(folder, "state-2.ckpt").readBytes())
    }

    @Test
    fun `a job that the system takes away leaves a checkpoint`() {
        teach()
        val job = slice { job, progress -> if (progress.update == 3) assertTrue(job.onStopJob(parameters)) }
        assertEquals(listOf(Outcome.PAUSED), job.reports.map { it.outcome })
        assertFalse(job.finished)
        assertTrue(state().isNotEmpty())
        assertEquals(listOf(Outcome.ACCEPTED), slice().reports.map { it.outcome })
    }

    @Test
    fun `a job waits for another training, and tells of what it can't do`() {
        teach()
        val busy = openSample(context).use { model ->
            var job: SampleJob? = null
            model.update { if (job == null) job = slice() }
            job!!
        }
        assertTrue(busy.finished && busy.comesBack && busy.errors.isEmpty())
        openSample(context).use { it.reset() }
        val failing = slice { _, _ -> error("no") }
        assertEquals(listOf("no"), failing.errors.map { it.message })
        assertTrue(failing.finished && !failing.comesBack)
    }
}
