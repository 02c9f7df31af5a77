package io.github.effine

import java.io.File

internal const val BEST = "best."
private const val SCHEMA = 1
private const val FORMAT = "effine checkpoint"
private val FIELDS = setOf(
    "identity", "state_id", "manifest_sha256", "phase", "policy", "step", "update", "total_updates", "epoch",
    "cursor", "seed", "data_fingerprint", "settings", "best_metric", "patience_left", "labels", "report",
)
private val IDENTITY = linkedMapOf(
    "method" to "method", "first_layer" to "first layer", "backbone" to "backbone", "labels" to "labels",
    "spare_labels" to "spare labels", "state" to "state layout",
)

/** A run at a moment, in one safetensors file: with artifact and data all that is needed to go on. */
internal class Checkpoint(
    val phase: String,
    val state: State,
    val run: Run,
    val labels: List<String>,
    val manifestSha256: String,
) {
    /** Writes the file atomically: the same bytes as Python's for the same run. */
    fun save(file: File, manifest: Manifest) {
        val tensors = state.tensors + run.best.orEmpty().mapKeys { BEST + it.key }
        val described = mapOf("format" to FORMAT, "schema" to "$SCHEMA") + metadata(manifest)
        TensorFile(tensors, described + ("sha256" to digest(described, tensors))).write(file)
    }

    private fun metadata(manifest: Manifest): Map<String, String> = mapOf(
        "identity" to manifest.identity.canonical(),
        "state_id" to manifest.stateId,
        "manifest_sha256" to manifestSha256,
        "phase" to phase,
        "policy" to run.policy.canonical(),
        "step" to run.step.toString(),
        "update" to run.update.toString(),
        "total_updates" to run.total.toString(),
        "epoch" to run.epoch.toString(),
        "cursor" to run.cursor.toString(),
        "seed" to run.settings.seed.toString(),
        "data_fingerprint" to run.fingerprint,
        "settings" to run.settings.json.canonical(),
        "best_metric" to Json.of(run.bestMetric).canonical(),
        "patience_left" to run.patienceLeft.toString(),
        "labels" to Json.texts(labels).canonical(),
        "report" to run.report.toJson().canonical(),
    )

    companion object {
        /**
         * Reads a checkpoint for an artifact.
         *
         * @throws IncompatibleCheckpoint it belongs to an artifact that differs in what is named.
         * @throws CheckpointError it is damaged, newer than this version, or not a checkpoint.
         */
        fun load(file: File, manifest: Manifest): Checkpoint = try {
            val content = TensorFile.read(file)
            checkFormat(file, content)
            val fields = content.metadata - setOf("format", "schema", "sha256")
            if (fields.keys != FIELDS) {
                val names = (fields.keys - FIELDS) + (FIELDS - fields.keys)
                throw FormatError("${names.sorted().joinToString(", ")} missing or unknown")
            }
            checkIdentity(file, fields, manifest)
            decode(content.tensors, fields, manifest)
        } catch (error: StateError) {
            throw CheckpointError(error.message!!, error)
        } catch (error: FormatError) {
            throw CheckpointError("$file: damaged: ${error.message}", error)
        }

        private fun checkFormat(file: File, content: TensorFile) {
            val metadata = content.metadata
            if (metadata["format"] != FORMAT) throw CheckpointError("$file: not an effine checkpoint")
            val schema = metadata["schema"]?.toIntOrNull()
            if (schema != null && schema > SCHEMA) {
                throw CheckpointError("$file: schema $schema is newer than this version reads ($SCHEMA); update effine")
            }
            val digest = digest(metadata - "sha256", content.tensors)
            if (metadata["schema"] != "$SCHEMA" || metadata["sha256"] != digest) {
                throw CheckpointError("$file: damaged: its contents don't give its sha256")
            }
        }

        private fun decode(tensors: Tensors, fields: Map<String, String>, manifest: Manifest): Checkpoint {
            fun place(name: String) = Place(Json.parse(fields.getValue(name)), name)
            val phase = fields.getValue("phase")
            if (phase !in manifest.phases && phase != manifest.firstPhase) {
                throw FormatError("phase '$phase' is unknown to the artifact")
            }
            val layout = manifest.layout(phase)
            val settings = RunSettings(place("settings").also { it.table() }.json as Json.Table)
            val run = Run(settings, fields.getValue("data_fingerprint"), place("total_updates").count())
            run.step = place("step").count()
            run.update = place("update").count()
            run.epoch = place("epoch").count()
            run.cursor = place("cursor").count()
            run.bestMetric = place("best_metric").optional { number() }
            run.patienceLeft = place("patience_left").whole(-MAX_ELEMENTS.toLong(), MAX_ELEMENTS.toLong()).toInt()
            run.policy = place("policy").also { it.table() }.json as Json.Table
            run.report = Report.of(place("report"))
            val (best, state) = tensors.entries.partition { it.key.startsWith(BEST) }
            if (best.isNotEmpty()) {
                run.best = best.associate { it.key.removePrefix(BEST) to it.value }
                    .also { State.checkLayout(layout.filter { entry -> entry.isParameter }, it) }
            }
            val labels = place("labels").items().map { it.text() }
            checkLabels(labels, manifest.task)
            return Checkpoint(
                phase,
                State.of(layout, state.associate { it.key to it.value }),
                run,
                labels,
                fields.getValue("manifest_sha256"),
            )
        }

        private fun checkIdentity(file: File, fields: Map<String, String>, manifest: Manifest) {
            val there = Json.parse(fields.getValue("identity")) as? Json.Table
            if (there == null || sha256Hex(there.canonical()) != fields["state_id"]) {
                throw FormatError("state_id doesn't belong to its identity")
            }
            if (fields["state_id"] == manifest.stateId) return
            val here = manifest.identity.entries
            val options = differences("option ", there.entries["options"], here.getValue("options"))
            val others = IDENTITY.filter { (key, _) -> there.entries[key] != here[key] }.map { (key, name) ->
                difference(name, there.entries[key], here[key])
            }
            throw IncompatibleCheckpoint(
                "$file: belongs to another artifact: ${(options + others).joinToString("; ")}; nothing was changed",
            )
        }

        private fun checkLabels(labels: List<String>, task: TaskInfo) {
            val known = task.labels
            val added = labels.size - known.size
            if (labels.take(known.size) != known || added > task.spareLabels || labels.distinct() != labels) {
                throw FormatError("its labels don't continue the artifact's")
            }
        }

        private fun digest(metadata: Map<String, String>, tensors: Tensors): String = sha256().run {
            update(Json.Table(metadata.mapValues { Json.Text(it.value) }).canonical().toByteArray())
            for (tensor in tensors.values) update(tensor.bytes())
            hex()
        }
    }
}

/** One phrase for each entry in which two JSON objects differ. */
internal fun differences(prefix: String, there: Json?, here: Json): List<String> {
    val (a, b) = (there as? Json.Table)?.entries.orEmpty() to (here as Json.Table).entries
    return (a.keys + b.keys).sorted()
        .filterNot { name -> (a[name] ?: Json.Null).means(b[name] ?: Json.Null) }
        .map { difference(prefix + it, a[it], b[it]) }
}

private fun difference(name: String, there: Json?, here: Json?): String =
    "$name (${brief(there)} there, ${brief(here)} here)"

private fun brief(value: Json?): String {
    val text = if (value == null || value == Json.Null) "none" else value.canonical()
    return if (text.length > 40) text.take(40) + "..." else text
}
