package io.github.effine

import java.io.File
import org.junit.Assume.assumeTrue

/** The artifact that the tests in Python export, and sentences that it learns; without it tests are skipped. */
internal object TinyArtifact {
    private val things = listOf("lamp", "music", "alarm")
    private val tails = listOf(
        "on", "off now", "for me please", "later today", "once again", "in the small kitchen", "at home", "before we all go to bed",
    )

    val artifact: Artifact by lazy {
        val folder = System.getProperty("effine.artifact")
        assumeTrue("-Deffine.artifact=FOLDER is missing: the tests in Python export one", folder != null)
        Artifact.open(File(folder))
    }

    /** Of each of three labels the third and the sixth are held out. */
    val sentences = tails.flatMap { tail -> things.map { Example("$it ${tail.substringBefore(' ')} $it $tail", it) } }

    val plan = UpdatePlan(Settings(epochs = 8, headRate = 0.05, seed = 3uL), checkpointEvery = 3)
}
