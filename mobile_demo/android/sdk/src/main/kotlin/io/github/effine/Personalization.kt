package io.github.effine

import java.io.Closeable
import java.io.File

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
)

/**
 * An example of the user's, as it is kept.
 *
 * @property id never given twice.
 * @property heldOut states are scored on it and never trained with it.
 */
class StoredExample internal constructor(val id: Long, val example: Example, val heldOut: Boolean)

/**
 * A model that learns from its user: the user's examples, the states learned from them, and updates
 * that can't make it worse. All of it lives in one folder, and a process may be killed at any moment:
 * every change is made by replacing one file.
 *
 * All methods may be called from any thread and any process; all but [update] are short. A new
 * artifact goes on with the folder if its state is the same; otherwise [predict] and [update] throw
 * [IncompatibleCheckpoint], nothing is deleted, and [reset] begins anew with the same examples.
 *
 * @param folder of this model alone, made when missing; on Android below `noBackupFilesDir`.
 * @param threads see [Trainer].
 */
class Personalization(
    private val folder: File,
    private val artifact: Artifact,
    private val plan: UpdatePlan = UpdatePlan(),
    private val threads: Int? = null,
) : Closeable {
    /** The artifact's labels, then those added here. */
    val labels: List<String> get() = TODO()

    /** The user's examples, the oldest first. */
    val examples: List<StoredExample> get() = TODO()

    /** The reports of the last updates that ended, the oldest first. */
    val reports: List<UpdateReport> get() = TODO()

    /** Whether an update would have something to do: go on with a run, learn new examples or unlearn old ones. */
    val due: Boolean get() = TODO()

    /** Whether examples were forgotten that the state in use has learned. */
    val mustUnlearn: Boolean get() = TODO()

    /** Whether [rollback] has a state to go back to. */
    val canRollBack: Boolean get() = TODO()

    /**
     * Keeps examples for the next update; one that is there already isn't added again.
     *
     * @return the id of each.
     * @throws DataError an example can't be used, or its label isn't in [labels]; none is added.
     */
    fun add(examples: List<Example>): List<Long> = TODO()

    /** Claims a spare row for a label; throws [DataError] if it exists or none is left. */
    fun addLabel(name: String): Unit = TODO()

    /**
     * Removes examples, their features, a run that trains with them and older states. The state in use
     * stays until the next update, which trains from the initial state.
     */
    fun forget(ids: Collection<Long>): Unit = TODO()

    /** Goes back to the state before the one in use; false if none is kept. An interrupted run is dropped. */
    fun rollback(): Boolean = TODO()

    /** Deletes all that was learned, and labels that no example has; examples and reports stay. */
    fun reset(): Unit = TODO()

    /** The prediction of the state in use, also while [update] trains another. */
    fun predict(example: Example): Prediction = TODO()

    fun predict(text: String): Prediction = predict(Example(text))

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
    fun update(milliseconds: Long = Long.MAX_VALUE, callback: (Progress) -> Unit = {}): UpdateReport = TODO()

    /** Ends the running slice of this object after the present step; from the callback or any thread. */
    fun cancel(): Unit = TODO()

    /** Releases the programs that predict. */
    override fun close(): Unit = TODO()
}
