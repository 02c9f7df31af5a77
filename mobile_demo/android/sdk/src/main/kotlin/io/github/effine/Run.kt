package io.github.effine

internal const val BALANCED = "balanced"

/**
 * Hyper-parameters that replace those of the artifact's recipe; null leaves the recipe's, or on
 * resuming the run's.
 *
 * @property pieceRate peak learning rate of the method's pieces.
 * @property headRate peak learning rate of the head.
 * @property schedule `constant`, `linear` or `cosine`, after a linear warm-up.
 * @property warmup share of the updates that warm up.
 * @property accumulate batches whose gradients one update sums up.
 * @property patience stop after this many epochs without a better metric; 0 never stops.
 * @property keepBest end with the parameters of the epoch with the best metric.
 * @property cachePrecision what features are rounded to, whether they are cached or not: `fp32`, `fp16` or `int8`.
 * @property phase where the run starts; by default in the first phase.
 */
data class Settings(
    val epochs: Int? = null,
    val pieceRate: Double? = null,
    val headRate: Double? = null,
    val schedule: String? = null,
    val warmup: Double? = null,
    val accumulate: Int? = null,
    val seed: ULong? = null,
    val patience: Int? = null,
    val keepBest: Boolean? = null,
    val cachePrecision: String? = null,
    val phase: String? = null,
) {
    /** A run's settings as a checkpoint keeps them, with these in place of [base]'s. */
    internal fun over(base: Json.Table, classWeights: String?): RunSettings {
        val chosen = listOfNotNull(
            epochs?.let { "epochs" to Json.of(it) },
            pieceRate?.let { "piece_rate" to Json.of(it) },
            headRate?.let { "head_rate" to Json.of(it) },
            schedule?.let { "schedule" to Json.of(it) },
            warmup?.let { "warmup" to Json.of(it) },
            accumulate?.let { "accumulate" to Json.of(it) },
            seed?.let { "seed" to Json.of(it) },
            patience?.let { "patience" to Json.of(it) },
            keepBest?.let { "keep_best" to Json.Bool(it) },
            cachePrecision?.let { "cache_precision" to Json.of(it) },
            phase?.let { "phase" to Json.of(it) },
        )
        try {
            return RunSettings(Json.Table(base.entries + chosen + ("class_weights" to Json.of(classWeights))))
        } catch (error: FormatError) {
            throw EffineError("the settings can't be used: ${error.message}", error)
        }
    }

    /** The artifact's recipe with these settings in place of its own. */
    internal fun over(manifest: Manifest, classWeights: String?): RunSettings {
        val defaults = mapOf("seed" to Json.of(0), "patience" to Json.of(0), "keep_best" to Json.Bool(true))
        return over(Json.Table(manifest.recipe.entries + defaults), classWeights)
    }
}

/** What a run's settings are where checkpoints leave them out. */
private val IMPLIED = mapOf("cache_precision" to Json.Text(EXACT), "phase" to Json.Null)

/** All hyper-parameters of a run. */
internal class RunSettings(given: Json.Table) {
    /** As people compare them. */
    val complete = Json.Table(IMPLIED + given.entries)

    /** As they are written, without what goes without saying. */
    val json = Json.Table(complete.entries.filterNot { (name, value) -> IMPLIED[name] == value })
    val epochs: Int
    val pieceRate: Double
    val headRate: Double
    val schedule: String
    val warmup: Double
    val accumulate: Int
    val seed: ULong
    val classWeights: String?
    val patience: Int
    val keepBest: Boolean
    val cachePrecision: String
    val phase: String?

    init {
        val fields = Fields(complete.entries, "")
        epochs = fields["epochs"].positive()
        pieceRate = fields["piece_rate"].amount()
        headRate = fields["head_rate"].amount()
        schedule = fields["schedule"].oneOf(*SCHEDULES)
        warmup = fields["warmup"].share()
        accumulate = fields["accumulate"].positive()
        seed = fields["seed"].natural()
        classWeights = fields["class_weights"].optional { oneOf(BALANCED) }
        patience = fields["patience"].count()
        keepBest = fields["keep_best"].boolean()
        cachePrecision = fields["cache_precision"].oneOf(*PRECISIONS)
        phase = fields["phase"].optional { name() }
        fields.finish()
    }
}

/** Handed to the callback after every update; [metrics] only at the end of an epoch. */
class Progress internal constructor(
    val update: Int,
    val total: Int,
    val epoch: Int,
    val loss: Double?,
    val metrics: Map<String, Double>? = null,
)

/** Where a run stands; with the state this is what a checkpoint holds. */
internal class Run(val settings: RunSettings, val fingerprint: String = "", val total: Int = 0) {
    var epoch = 0
    var cursor = 0
    var update = 0
    var step = 0
    var bestMetric: Double? = null
    var best: Tensors? = null
    var patienceLeft = settings.patience

    /** What the method's policy remembers. */
    var policy = Json.Table(emptyMap())
    var report = Report()

    /** Forgets the best epoch so far, as what follows can't be compared with it. */
    fun forgetBest() {
        best = null
        bestMetric = null
        report.bestEpoch = 0
        patienceLeft = settings.patience
    }

    /** Whether the metric hasn't improved for `patience` epochs. */
    val exhausted: Boolean get() = settings.patience > 0 && patienceLeft <= 0
}
