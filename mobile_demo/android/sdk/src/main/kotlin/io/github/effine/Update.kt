package io.github.effine

/**
 * A slice of a run: trains on from where it stands and, when it has ended, decides about the new state.
 * The caller holds the store's lock for training.
 */
internal class Update(
    private val store: PersonalStore,
    private val artifact: Artifact,
    private val plan: UpdatePlan,
    private val stops: () -> Boolean,
    private val callback: (Progress) -> Unit,
) {
    private lateinit var run: OpenRun
    private lateinit var examples: List<StoredExample>

    fun run(): UpdateReport {
        val sha256 = artifact.manifest.sha256
        val contents = store.change { it.begin(plan.classWeights, sha256) }
        run = contents.run!!
        if (run.artifact != sha256) run = takenOver(sha256)
        examples = contents.examples.filter { it.id < run.until }
        return Trainer(artifact).use { trainer ->
            val training = train(trainer, contents.labels.take(run.labels))
            when {
                withdrawn(store.read()) -> report(Outcome.WITHDRAWN, training)
                training.cancelled -> report(Outcome.PAUSED, training)
                else -> decide(trainer, training, contents.base)
            }
        }
    }

    /** Goes on with a run of another artifact, from what that one learned; [withdrawn] is noticed later. */
    private fun takenOver(sha256: String): OpenRun {
        val from = if (store.state(run.id).exists()) run.id else run.from
        if (from != 0L) Checkpoint.load(store.state(from), artifact.manifest)
        return store.change { if (withdrawn(it)) it else it.takeOver(run, from, sha256) }.run ?: run
    }

    private fun train(trainer: Trainer, added: List<String>): Report {
        val file = store.state(run.id)
        val begun = file.exists()
        if (!begun && run.from != 0L) trainer.load(store.state(run.from))
        for (label in added) if (label !in trainer.labels) trainer.addLabel(label)
        val data = trainer.dataset(examples.filter { !it.heldOut }.map { it.example }, classWeights = run.classWeights)
        val watch = { progress: Progress ->
            callback(progress)
            if (stops() || withdrawn(store.read())) trainer.cancel()
        }
        val every = plan.checkpointEvery
        return when {
            begun -> trainer.resume(file, data, checkpointEvery = every, callback = watch)
            run.from == 0L -> trainer.fit(data, null, plan.settings, file, every, watch)
            else -> trainer.continueWith(data, null, plan.settings, file, every, watch)
        }
    }

    /** Compares the new state with the one that stays otherwise. */
    private fun decide(trainer: Trainer, training: Report, base: Long): UpdateReport {
        val data = trainer.dataset(examples.filter { it.heldOut }.map { it.example })
        val (metric, after) = trainer.evaluate(data).entries.first()
        if (base == 0L) trainer.reset() else trainer.load(store.state(base))
        val before = trainer.evaluate(data).getValue(metric)
        val outcome = if (before - after > plan.margin) Outcome.REJECTED else Outcome.ACCEPTED
        val report = report(outcome, training, metric, before, after)
        var withdrawn = false
        store.change { now ->
            withdrawn = withdrawn(now)
            if (withdrawn) now else now.end(run, report, plan.keep)
        }
        return if (withdrawn) report(Outcome.WITHDRAWN, training) else report
    }

    private fun withdrawn(contents: Contents): Boolean = contents.run?.id != run.id

    private fun report(
        outcome: Outcome,
        training: Report,
        metric: String? = null,
        before: Double? = null,
        after: Double? = null,
    ) = UpdateReport(outcome, System.currentTimeMillis(), metric, before, after, examples.count { it.heldOut }, training)
}
