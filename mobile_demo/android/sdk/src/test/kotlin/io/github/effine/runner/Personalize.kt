package io.github.effine.runner

import io.github.effine.Artifact
import io.github.effine.Example
import io.github.effine.Json
import io.github.effine.Personalization
import io.github.effine.Place
import io.github.effine.UpdatePlan
import java.io.File

private val OPTIONS = setOf("--home", "--data", "--learn", "--checkpoint-every", "--stop-after", "--threads")

/**
 * Adds examples and updates; prints every step, what was kept and the outcome as soon as it is so, for
 * tests that kill this process. The examples to learn are added while it trains.
 */
internal fun personalize(rest: List<String>) {
    val arguments = Arguments(rest, SETTINGS + OPTIONS)
    val artifact = Artifact.open(File(arguments.words.single()))
    val plan = UpdatePlan(settings(arguments), checkpointEvery = arguments.whole("--checkpoint-every") ?: 50)
    val limit = arguments.whole("--stop-after") ?: Int.MAX_VALUE
    Personalization(File(arguments.text("--home")), artifact, plan, arguments.whole("--threads")).use { model ->
        model.add(labelled(arguments.text("--data")))
        var steps = 0
        val report = model.update { progress ->
            if (++steps == 1 && arguments.has("--learn")) {
                println("kept ${model.add(labelled(arguments.text("--learn")))}")
            }
            println("update ${progress.update}")
            if (steps == limit) model.cancel()
        }
        println("${report.outcome} ${report.summary}")
    }
}

private fun labelled(path: String): List<Example> = File(path).readLines().map { line ->
    val fields = Place(Json.parse(line), path).table()
    Example(fields.getValue("text").string(), fields.getValue("label").string())
}
