package io.github.effine

import io.github.effine.tokenizer.Tokenizer
import java.io.Closeable
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** Samples of an update at most; what is reckoned with stays far below the largest [Int]. */
private const val MAX_UPDATE = 1 shl 24

/**
 * Trains an artifact and predicts with what it learned: what effine.runtime.Trainer does, bit for bit.
 *
 * Calls block, and only one runs at a time; see [TrainingThread] to keep them off the main thread.
 *
 * @param threads size of ExecuTorch's process-wide thread pool, by default its own choice.
 */
class Trainer(private val artifact: Artifact, threads: Int? = null) : Closeable {
    private val manifest = artifact.manifest
    private val engine = Engine(artifact, threads)
    private val learner = Learner(artifact, engine)
    private val tokenizer by lazy { Tokenizer.read(artifact.tokenizer) }
    private val lock = ReentrantLock()
    private val cancelled = AtomicBoolean()
    private var run = Run(Settings().over(manifest, classWeights = null))

    /** The labels in head order, those added on the device last. */
    val labels: List<String> get() = learner.labels

    /**
     * Examples in the form that programs take.
     *
     * @param labelled false ignores labels and scores.
     * @param classWeights `balanced` to weight examples against the label frequencies.
     * @param labels in head order, by default those in use.
     * @throws DataError an example can't be used with this artifact.
     */
    fun dataset(
        examples: List<Example>,
        labelled: Boolean = true,
        classWeights: String? = null,
        labels: List<String> = this.labels,
    ): Dataset {
        if (classWeights != null && (classWeights != BALANCED || manifest.task.name == TaskInfo.REGRESSION || !labelled)) {
            throw DataError("class weights '$classWeights' can't be used; use '$BALANCED', for labelled classes")
        }
        return tokenized(examples, manifest, tokenizer, labels, labelled, classWeights)
    }

    /**
     * Trains from the artifact's initial state.
     *
     * @param eval data for the metric that early stopping and keep-best go by.
     * @param checkpoint a file that is rewritten every [checkpointEvery] updates, after each epoch,
     *   and on cancellation.
     * @param callback called after every update and every epoch, on this thread.
     */
    fun fit(
        data: Dataset,
        eval: Dataset? = null,
        settings: Settings = Settings(),
        checkpoint: File? = null,
        checkpointEvery: Int = 50,
        callback: (Progress) -> Unit = {},
    ): Report = lock.withLock {
        checkLabels(data, eval)
        learner.reset()
        start(data, eval, settings)
        Session(data, eval, checkpoint, checkpointEvery, callback).train()
    }

    /** Trains from the learned parameters on other data, with a new schedule; see [fit]. */
    fun continueWith(
        data: Dataset,
        eval: Dataset? = null,
        settings: Settings = Settings(),
        checkpoint: File? = null,
        checkpointEvery: Int = 50,
        callback: (Progress) -> Unit = {},
    ): Report = lock.withLock {
        checkLabels(data, eval)
        giveBack()
        learner.restart()
        start(data, eval, settings)
        Session(data, eval, checkpoint, checkpointEvery, callback).train()
    }

    /**
     * Goes on with an interrupted run, bit for bit as if it had not been interrupted.
     *
     * @param data the run's; call [load] before [dataset] if labels were added in the run.
     * @param settings those given must be the run's.
     * @throws IncompatibleCheckpoint the checkpoint belongs to another artifact.
     * @throws CheckpointError data or settings differ from those of the run.
     */
    fun resume(
        checkpoint: File,
        data: Dataset,
        eval: Dataset? = null,
        settings: Settings = Settings(),
        checkpointEvery: Int = 50,
        callback: (Progress) -> Unit = {},
    ): Report = lock.withLock {
        val saved = Checkpoint.load(checkpoint, manifest)
        val chosen = settings.over(saved.run.settings.json, data.classWeights)
        checkAccumulation(chosen)
        val differences = differences("setting ", saved.run.settings.json, chosen.json).toMutableList()
        if (saved.run.fingerprint != fingerprint(data, eval) || saved.labels != data.labels) {
            differences += "the data are not those of the interrupted run"
        }
        if (saved.manifestSha256 != manifest.sha256) differences += "the artifact has been exported again since"
        if (differences.isNotEmpty()) {
            throw CheckpointError(
                "$checkpoint: can't resume: ${differences.joinToString("; ")}; use the same, or continue instead",
            )
        }
        take(saved)
        run.report.cancelled = false
        Session(data, eval, checkpoint, checkpointEvery, callback).train()
    }

    /** Stops after the current update; may be called from the callback or any thread. */
    fun cancel() = cancelled.set(true)

    /** Writes a checkpoint: everything needed to predict, to resume or to continue. */
    fun save(file: File) = lock.withLock {
        Checkpoint(learner.phase, learner.state, run, learner.labels, manifest.sha256).save(file, manifest)
    }

    /** Takes over a checkpoint's state, to predict with it or to continue from it. */
    fun load(file: File) = lock.withLock { take(Checkpoint.load(file, manifest)) }

    /** Goes back to the artifact's initial state, without the labels that were added. */
    fun reset() = lock.withLock {
        learner.restore(manifest.firstPhase, artifact.initialState(), manifest.task.labels)
    }

    /** Claims a spare row of the head for a new label; throws [DataError] if none is left. */
    fun addLabel(name: String) = lock.withLock { learner.addLabel(name) }

    /** Metrics of the current parameters on labelled data. */
    fun evaluate(data: Dataset): Map<String, Double> = lock.withLock { learner.metrics(data) }

    /** Predictions for all samples, in order. */
    fun predict(data: Dataset): List<Prediction> =
        lock.withLock { learner.logits(data).map { learner.prediction(it) } }

    /** Predictions for texts, in order. */
    fun predict(texts: List<String>): List<Prediction> = predict(dataset(texts.map { Example(it) }, labelled = false))

    /** Releases the programs. */
    override fun close() = lock.withLock { engine.close() }

    private fun start(data: Dataset, eval: Dataset?, settings: Settings) {
        val chosen = settings.over(manifest, data.classWeights)
        checkAccumulation(chosen)
        val size = manifest.batch * chosen.accumulate
        val updates = chosen.epochs.toLong() * ((data.size - 1) / size + 1)
        if (updates > MAX_ELEMENTS) throw DataError("$updates updates are too many; train for fewer epochs")
        run = Run(chosen, fingerprint(data, eval), updates.toInt())
        run.report.samples = data.size
        run.report.truncated = data.truncated
        if (eval != null) run.report.before = learner.metrics(eval)
    }

    /** Refuses what the artifact's programs can't do. */
    private fun checkAccumulation(settings: RunSettings) {
        val accumulate = settings.accumulate
        if (accumulate > 1 && !manifest.accumulates) {
            throw ArtifactError(
                "accumulate $accumulate: artifact '${manifest.name}' has no program for it; export with --accumulate",
            )
        }
        val size = manifest.batch.toLong() * accumulate
        if (size > MAX_UPDATE) throw EffineError("accumulate $accumulate: $size samples for an update; use fewer")
    }

    private fun take(saved: Checkpoint) {
        learner.restore(saved.phase, saved.state, saved.labels)
        run = saved.run
    }

    /** Goes to a phase; the best parameters so far take its layout as well. */
    private fun enter(phase: String, indices: Indices) {
        val transition = learner.enter(phase, indices)
        if (transition.restarts) run.step = 0
        run.best = run.best?.let { transition.moved(learner.layout.filter { entry -> entry.isParameter }, it, indices) }
    }

    /** Gives the parameters their original layout back. */
    private fun giveBack() {
        if (learner.phase == manifest.firstPhase) return
        policyFor(manifest, run.total)?.wayBack(run.policy)?.let { enter(manifest.firstPhase, it) }
    }

    private fun checkLabels(vararg data: Dataset?) {
        if (data.any { it != null && it.labels != learner.labels }) {
            throw DataError("the data has other labels than the trainer (${learner.labels.joinToString(", ")})")
        }
    }

    private fun fingerprint(data: Dataset, eval: Dataset?): String =
        sha256Hex(data.fingerprint + (eval?.fingerprint ?: ""))

    /** One call of fit, continueWith or resume. */
    private inner class Session(
        private val data: Dataset,
        private val eval: Dataset?,
        private val checkpoint: File?,
        private val checkpointEvery: Int,
        private val callback: (Progress) -> Unit,
    ) {
        private val policy = policyFor(manifest, run.total)

        fun train(): Report {
            cancelled.set(false)
            val size = manifest.batch * run.settings.accumulate
            while (run.epoch < run.settings.epochs && !run.exhausted) {
                val order = batches(data.seqs, size, run.settings.seed, run.epoch)
                while (run.cursor < order.size && !cancelled.get()) step(order[run.cursor])
                if (run.cursor < order.size) {
                    run.report.cancelled = true
                    break
                }
                endEpoch()
                save()
                val done = run.report.epochs.last()
                callback(Progress(run.update, run.total, done.epoch, done.loss, done.metrics))
            }
            finish()
            save()
            return run.report
        }

        private fun step(samples: List<Int>) {
            val loss = update(samples)
            run.cursor++
            policy?.decide(run.policy, run.update, learner.phase, learner.state)?.let { follow(it) }
            if (run.update % checkpointEvery == 0) save()
            callback(Progress(run.update, run.total, run.epoch + 1, loss))
        }

        /** Goes where the policy decided to, and logs it. */
        private fun follow(decision: Decision) {
            enter(decision.phase, decision.indices)
            run.policy = decision.memory
            val epoch = (run.update.toLong() * run.settings.epochs).toDouble() / run.total
            run.report.decisions += Json.Table(
                decision.found + mapOf(
                    "update" to Json.of(run.update),
                    "epoch" to Json.of(epoch),
                    "phase" to Json.of(decision.phase),
                    "reason" to Json.of(decision.reason),
                ),
            )
        }

        private fun update(samples: List<Int>): Double? {
            val settings = run.settings
            val rates = mapOf("pieces" to settings.pieceRate, "head" to settings.headRate).mapValues { (_, peak) ->
                rate(settings.schedule, peak, run.update, run.total, settings.warmup)
            }
            val loss = learner.update(data, samples, rates, run.step + 1, settings.accumulate)
            run.update++
            if (loss == null) {
                run.report.discarded += Discarded(run.update, samples)
                return null
            }
            run.step++
            val weight = pairwiseSum(data.weights(samples)).toDouble()
            run.report.lossSum += loss * weight
            run.report.weightSum += weight
            return loss
        }

        /** Evaluates, and remembers the best parameters. */
        private fun endEpoch() {
            run.epoch++
            run.cursor = 0
            val metrics = eval?.let { learner.metrics(it) }.orEmpty()
            run.report.endEpoch(run.epoch, metrics)
            val metric = metrics[mainMetric(manifest.task)] ?: return
            val best = run.bestMetric
            if (best == null || metric > best) {
                run.bestMetric = metric
                run.patienceLeft = run.settings.patience
                if (run.settings.keepBest) {
                    run.best = learner.state.parameters(learner.layout)
                    run.report.bestEpoch = run.epoch
                }
            } else {
                run.patienceLeft--
            }
        }

        private fun finish() {
            if (run.report.cancelled) return
            run.best?.forEach { (name, tensor) -> learner.state[name].copyFrom(tensor) }
            giveBack()
            val initial = artifact.initialState()
            val parameters = learner.layout.filter { it.isParameter }
            val changed = parameters.any { !initial[it.name].sameBits(learner.state[it.name]) }
            val single = manifest.task.name == TaskInfo.CLASSIFICATION
            val predicted = if (single) eval?.let { learner.logits(it).map(::largest) } else null
            val oneLabel = predicted != null && predicted.size > 1 && predicted.distinct().size == 1
            run.report.diagnose(changed, oneLabel, manifest.frozenHead)
        }

        private fun save() {
            if (checkpoint != null) this@Trainer.save(checkpoint)
        }
    }
}
