package io.github.effine.demo

import io.github.effine.Progress
import io.github.effine.UpdateReport
import io.github.effine.android.TrainingJob

/** Trains while the phone charges and nobody uses it; an open screen shows it. */
class BackgroundTraining : TrainingJob() {
    private val assistant get() = (application as DemoApplication).assistant

    override fun open() = openModel(this)

    override fun onProgress(progress: Progress) = assistant.onProgress(progress)

    override fun onReport(report: UpdateReport) = assistant.onReport(report)

    override fun onError(error: Exception) = assistant.onError(error)
}
