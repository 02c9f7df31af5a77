package io.github.effine.demo

import android.content.Context
import io.github.effine.ArtifactError
import io.github.effine.Bundle
import io.github.effine.DataError
import io.github.effine.Example
import io.github.effine.Personalization
import io.github.effine.Settings
import io.github.effine.UpdatePlan
import io.github.effine.android.TrainingJob
import io.github.effine.android.shippedBundle
import java.io.IOException
import org.json.JSONObject

private const val SAMPLES = "samples.jsonl"
private const val MODEL = "intents"

/** Few sentences take many passes, which end when they no longer help. */
private val PLAN = UpdatePlan(Settings(epochs = 10, patience = 3))

/**
 * The model that the app ships, with what it has learned on this phone.
 *
 * @throws ArtifactError the app was built without a model, or its copy is damaged.
 */
internal fun openModel(context: Context): Personalization {
    val bundle = Bundle.open(shippedBundle(context))
    return Personalization(TrainingJob.folder(context, MODEL), bundle.artifacts.values.first(), PLAN)
}

/** The sentences that the app ships for a start. */
internal fun sampleSentences(context: Context): List<Example> = try {
    context.assets.open(SAMPLES).bufferedReader().readLines().map(::JSONObject).map {
        Example(it.getString("text"), label = it.getString("label"))
    }
} catch (error: IOException) {
    throw DataError(context.getString(R.string.no_samples), error)
}
