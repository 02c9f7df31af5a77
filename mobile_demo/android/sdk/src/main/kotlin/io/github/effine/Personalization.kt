package io.github.effine

import java.io.Closeable
import java.io.File
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

private const val MAX_LABEL = 1000

/**
 * How updates go.
 *
 * @property settings hyper-parameters of the training; a run that has begun keeps its own.
 * @property classWeights see [Trainer.dataset].
 * @property margin by how much the score of a new state may be lower than that of the state in use.
 * @property keep how many states to keep, the one in use included.
 * @property checkpointEvery updates of the state after which a checkpoint is written.
 */
data class UpdatePlan(
    val settings: Settings = Settings(),
    val classWeights: String? = null,
    val margin: Double = 0.02,
    val keep: Int = 3,
    val checkpointEvery: Int = 50,
) {
    init {
        if (!(margin >= 0) || keep < 1 || checkpointEvery < 1) {
            throw EffineError("$this can't be used: the margin is 0 or more, keep and checkpointEvery are 1 or more")
        }
    }
}

/**
 * A model that learns from its user: the user's examples, the states learned from them, and updates
 * that don't make it worse. All of it lives in one folder, and the process may be killed at any
 * moment: every change is made by replacing one file.
 *
 * All methods may be called from any thread, and there may be several objects and processes for a
 * folder; all methods but [update] are short. A new artifact goes on with the folder if its state is
 * the same; otherwise [predict] and [update] throw [IncompatibleCheckpoint], nothing is deleted, and
 * [reset] begins anew with the same examples.
 *
 * @param folder of this model alone, made when missing; on Android below `noBackupFilesDir`.
 * @param threads see [Trainer]; sizing the pool must not meet a running program.
 */
class Personalization(
    folder: File,
    private val artifact: Artifact,
    private val plan: UpdatePlan = UpdatePlan(),
    threads: Int? = null,
) : Closeable {
    private val task = artifact.manifest.task
    private val store = PersonalStore.of(folder)
    private val predictor = Trainer(artifact, threads)
    private val prediction = ReentrantLock()

    /** The state that the predictor has. */
    private var loaded = 0L

    @Volatile
    private var stopping = false

    init {
        store.sweep()
    }

    /** The artifact's labels, then those added here. */
    val labels: List<String> get() = task.labels + store.read().labels

    /** The user's examples, the oldest first. */
    val examples: List<StoredExample> get() = store.read().examples

    /** The reports of the last updates that ended, the oldest first. */
    val reports: List<UpdateReport> get() = store.read().reports

    /** Whether an update would have something to do: go on with a run, learn new examples or unlearn old ones. */
    val due: Boolean get() = store.read().due

    /** Whether examples were forgotten that the state in use has learned. */
    val mustUnlearn: Boolean get() = store.read().mustUnlearn

    /** Whether [rollback] has a state to go back to. */
    val canRollBack: Boolean get() = store.read().states.size > 1

    /**
     * Keeps examples for the next update; one that is there already isn't added again.
     *
     * @return the id of each.
     * @throws DataError an example can't be used, or its label isn't in [labels]; none is added.
     */
    fun add(examples: List<Example>): List<Long> {
        if (examples.isEmpty()) return emptyList()
        val contents = store.change {
            predictor.dataset(examples, labels = task.labels + it.labels)
            it.add(examples)
        }
        val ids = contents.examples.associate { it.example to it.id }
        return examples.map { ids.getValue(it) }
    }

    /** Claims a spare row for a label; throws [DataError] if it exists or none is left. */
    fun addLabel(name: String) {
        val whole = String(name.toByteArray()) == name  // no half of a surrogate pair
        if (name.isBlank() || !whole || name.codePointCount(0, name.length) > MAX_LABEL) {
            throw DataError("label '$name' can't be used; give it 1 to $MAX_LABEL characters")
        }
        store.change {
            if (name in task.labels + it.labels) throw DataError("label '$name' exists already")
            if (it.labels.size == task.spareLabels) {
                throw DataError("no spare row left for label '$name'; export again with --spare-labels")
            }
            it.copy(labels = it.labels + name)
        }
    }

    /**
     * Removes examples, their features, a run that trains with them and older states. The state in use
     * stays until the next update, which trains from the initial state, or goes now if too few
     * examples are left for one.
     */
    fun forget(ids: Collection<Long>) {
        store.change { it.forget(ids.toSet()) }
        store.sweep()
    }

    /** Goes back to the state before the one in use; false if none is kept. An interrupted run is dropped. */
    fun rollback(): Boolean {
        var done = false
        store.change { before -> before.rollback().also { done = it !== before } }
        store.sweep()
        return done
    }

    /** Deletes all that was learned, and labels that no example has; examples and reports stay. */
    fun reset() {
        store.change { it.reset() }
        store.sweep()
    }

    /** The prediction of the state in use, also while [update] trains another. */
    fun predict(example: Example): Prediction = prediction.withLock {
        if (store.read().inUse != loaded) store.locked { load(it.inUse) }
        predictor.predict(predictor.dataset(listOf(example), labelled = false)).single()
    }

    fun predict(text: String): Prediction = predict(Example(text))

    private fun load(state: Long) {
        if (state == 0L) predictor.reset() else predictor.load(store.state(state))
        loaded = state
    }

    /**
     * Trains on the examples, going on with an interrupted run if there is one, and takes the new state
     * into use unless it scores worse on the held-out examples. Examples that are added meanwhile wait
     * for the next run.
     *
     * @param milliseconds after which the slice ends; the next call goes on.
     * @param callback called after every update of the state and every epoch, on this thread.
     * @throws BusyError another update of this folder is running.
     * @throws DataError there are too few examples: one must be held out, which is so from the third
     *   of a label on.
     */
    fun update(milliseconds: Long = Long.MAX_VALUE, callback: (Progress) -> Unit = {}): UpdateReport =
        store.training.tryHold({ throw BusyError("an update is running already; wait until it has ended") }) {
            stopping = false
            val begin = System.nanoTime()
            val stops = { stopping || (System.nanoTime() - begin) / 1_000_000 >= milliseconds }
            store.sweepLocked()
            Update(store, artifact, plan, stops, callback).run().also { store.sweepLocked() }
        }

    /** Ends the running slice of this object after the present step; from the callback or any thread. */
    fun cancel() {
        stopping = true
    }

    /** Releases the programs that predict. */
    override fun close() = prediction.withLock { predictor.close() }
}
