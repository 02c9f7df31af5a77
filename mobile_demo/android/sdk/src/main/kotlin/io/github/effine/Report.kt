package io.github.effine

private const val FLAT = 0.98

/** One pass over the data; [loss] is null if every update was discarded. */
class Epoch internal constructor(val epoch: Int, val loss: Double?, val metrics: Map<String, Double>)

/** An update that was thrown away because the loss or the new state wasn't finite. */
class Discarded internal constructor(val update: Int, val samples: List<Int>)

/** What happened, and whether the model learned. It is part of every checkpoint. */
class Report internal constructor() {
    var samples = 0
        internal set

    /** Texts that were cut to the longest exported length. */
    var truncated = 0
        internal set
    var epochs = emptyList<Epoch>()
        internal set

    /** Metrics on the evaluation data before training. */
    var before = emptyMap<String, Double>()
        internal set
    var discarded = emptyList<Discarded>()
        internal set
    var warnings = emptyList<String>()
        internal set

    /** What the method's policy found and decided between updates, as JSON. */
    internal var decisions = emptyList<Json>()

    /** The epoch whose parameters were kept, 0 for the last. */
    var bestEpoch = 0
        internal set
    var cancelled = false
        internal set

    /** What the feature cache saves, as a line for people; not part of checkpoints. */
    var cache = ""
        internal set

    /** How many samples were beyond the bound of the cache; not part of checkpoints. */
    var uncached = 0
        internal set

    // The running epoch so far.
    internal var lossSum = 0.0
    internal var weightSum = 0.0

    /** Metrics of the kept parameters on the evaluation data; empty without such data. */
    val metrics: Map<String, Double>
        get() = epochs.lastOrNull { bestEpoch == 0 || it.epoch == bestEpoch }?.metrics.orEmpty()

    /** Closes the running epoch. */
    internal fun endEpoch(epoch: Int, metrics: Map<String, Double>) {
        val mean = if (weightSum == 0.0) null else lossSum / weightSum
        lossSum = 0.0
        weightSum = 0.0
        epochs += Epoch(epoch, mean, metrics)
    }

    /**
     * Warns of training that didn't learn, each time with the likely cause.
     *
     * @param changed whether any parameter differs from where training started.
     * @param collapse what to say if the same is predicted for all of the evaluation data.
     */
    internal fun diagnose(changed: Boolean, collapse: String?, frozenHead: FrozenHead?) {
        val losses = epochs.mapNotNull { it.loss }
        val found = ArrayList<String>()
        if (!changed) {
            found += "the parameters didn't change: all updates were discarded, or the learning rates are 0"
        } else if (losses.size > 1 && losses.last() > FLAT * losses.first()) {
            val range = "(${rounded(losses.first(), 4)} to ${rounded(losses.last(), 4)})"
            found += if (losses.last() > losses.first()) {
                "the loss rose $range: lower learning rates"
            } else {
                "the loss is flat $range: raise the learning rates or the number of epochs, and check " +
                    "that labels match their texts"
            }
        }
        if (collapse != null) found += collapse
        if (found.isNotEmpty() && frozenHead != null) {
            found += "for comparison, a linear head on the frozen backbone reaches " +
                "${frozenHead.metric} ${fixed(frozenHead.score, 3)} (${frozenHead.data})"
        }
        warnings = found
    }

    internal fun toJson(): Json = Json.Table(
        mapOf(
            "samples" to Json.of(samples),
            "truncated" to Json.of(truncated),
            "epochs" to Json.Items(epochs.map { it.toJson() }),
            "before" to metricsJson(before),
            "discarded" to Json.Items(discarded.map { it.toJson() }),
            "warnings" to Json.texts(warnings),
            "best_epoch" to Json.of(bestEpoch),
            "cancelled" to Json.Bool(cancelled),
            "loss_sum" to Json.of(lossSum),
            "weight_sum" to Json.of(weightSum),
        ) + if (decisions.isEmpty()) emptyMap() else mapOf("decisions" to Json.Items(decisions)),
    )

    private fun Epoch.toJson(): Json = Json.Table(
        mapOf("epoch" to Json.of(epoch), "loss" to Json.of(loss), "metrics" to metricsJson(metrics)),
    )

    private fun Discarded.toJson(): Json = Json.Table(
        mapOf("update" to Json.of(update), "samples" to Json.Items(samples.map { Json.of(it) })),
    )

    private fun metricsJson(metrics: Map<String, Double>): Json = Json.Table(metrics.mapValues { Json.Real(it.value) })

    internal companion object {
        fun of(place: Place): Report = place.fields {
            Report().also {
                it.samples = get("samples").count()
                it.truncated = get("truncated").count()
                it.epochs = get("epochs").items().map { epoch -> epoch.fields { epoch() } }
                it.before = metrics("before")
                it.discarded = get("discarded").items().map { update -> update.fields { discarded() } }
                it.warnings = get("warnings").items().map { warning -> warning.string() }
                it.bestEpoch = get("best_epoch").count()
                it.cancelled = get("cancelled").boolean()
                it.lossSum = get("loss_sum").number()
                it.weightSum = get("weight_sum").number()
                it.decisions = find("decisions")?.items().orEmpty().map { decision -> decision.json }
            }
        }

        private fun Fields.epoch() = Epoch(get("epoch").count(), get("loss").optional { number() }, metrics("metrics"))

        private fun Fields.discarded() = Discarded(get("update").count(), get("samples").items().map { it.count() })

        private fun Fields.metrics(key: String) = get(key).table().mapValues { it.value.number() }
    }
}
