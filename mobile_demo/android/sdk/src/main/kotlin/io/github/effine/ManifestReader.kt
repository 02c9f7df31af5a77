package io.github.effine

import io.github.effine.tasks.TASKS

private const val SCHEMA = 2
private const val PLAIN_SCHEMA = 1
internal const val MANIFEST = "manifest.json"
internal const val SIGNATURE = "manifest.sig"
internal const val REPORTS = "reports"
private val ROLES = arrayOf(
    TensorSpec.TOKEN, TensorSpec.FEATURE, "mask", "label", "weight", "scalar", TensorSpec.GRADIENT, TensorSpec.READ,
    TensorSpec.UPDATE, TensorSpec.STATISTIC, "loss", "logits",
)
private val STATE_ROLES = arrayOf(StateTensor.PARAMETER, StateTensor.MOMENT, StateTensor.STATISTIC)
private val LIMITS = listOf(
    "feature_rtol", "feature_atol", "gradient", "gradient_floor", "loss", "change", "change_tensor",
    "cosine", "cosine_fp32",
)

/** Reads a manifest strictly; throws [FormatError] when it is damaged, too new or says something absurd. */
internal fun readManifest(text: String): Manifest {
    if (!isSealed(text)) throw FormatError("damaged: its bytes don't give its own sha256; $AGAIN")
    val json = Json.parse(text)
    val schema = (json as? Json.Table)?.entries?.get("schema")
    if (schema is Json.Whole && schema.value > SCHEMA) {
        throw FormatError("schema ${schema.value} is newer than this version reads ($SCHEMA); update effine")
    }
    return Place(json, "").fields { manifest() }
}

private const val SEAL_START = "\"sha256\": \""
private const val SEAL_END = "\"\n}\n"
private val ZEROS = "0".repeat(64)

/** Whether a text ends in the SHA-256 of itself with 64 zeros in the digits' place. */
internal fun isSealed(text: String): Boolean {
    val body = text.dropLast(SEAL_START.length + ZEROS.length + SEAL_END.length)
    val digest = sha256Hex(body + SEAL_START + ZEROS + SEAL_END)
    return text == body + SEAL_START + digest + SEAL_END
}

private fun Fields.manifest(): Manifest {
    val schema = get("schema").whole(PLAIN_SCHEMA.toLong(), SCHEMA.toLong()).toInt()
    get("torch").text()
    val tolerances = get("tolerances").fields {
        get("reason").string()
        LIMITS.associateWith { get(it).amount() }
    }
    val state = get("state")
    val tensors = state.items().map { it.fields { stateTensor() } }
    val files = get("files").table().mapValues { (_, place) ->
        place.fields { FileEntry(get("size").whole(0, 1L shl 53), get("sha256").hash()) }
    }
    val (batch, seqs) = get("shapes").fields { get("batch").positive() to get("seqs").items().map { it.positive() } }
    val method = get("method")
    val task = get("task")
    val backbone = get("backbone")
    val methods = get("programs").table().values.flatMap { it.fields { program(files) } }
    val manifest = Manifest(
        name = get("name").text(),
        effine = get("effine").text(),
        executorch = get("target").fields { executorch() },
        method = method.fields { methodName() },
        layersBelow = method.fields { layersBelow() },
        options = (method.json as Json.Table).entries.getValue("options") as Json.Table,
        task = task.fields { task() },
        tokens = get("tokens").fields { tokens() },
        batch = batch,
        seqs = seqs,
        state = tensors,
        stateId = get("state_id").hash(),
        memory = get("memory").fields { memory() },
        frozenHead = get("frozen_head").optional {
            fields { FrozenHead(get("score").number(), get("metric").name(), get("data").text()) }
        },
        sha256 = get("sha256").hash(),
        tolerances = tolerances,
        optimizer = get("optimizer").fields { optimizer() },
        recipe = get("recipe").also { it.fields { recipe() } }.json as Json.Table,
        identity = identity(method.json, backbone.also { it.fields { backbone() } }.json, task.json, state.json),
        files = files,
        phases = find("phases")?.table().orEmpty().mapValues { it.value.fields { get("layers_below").count() } },
        transitions = get("transitions").items().map { it.fields { transition() } },
        methods = methods.associateBy { it.name },
    )
    checkWhole(manifest, methods)
    checkPhases(schema, manifest, methods)
    return manifest
}

/** The version of ExecuTorch that the programs are for; this SDK runs no others. */
private fun Fields.executorch(): String {
    get("name").oneOf("xnnpack")
    get("opset").optional<Unit> { fail("null") }
    return get("version").text()
}

private fun Fields.stateTensor(): StateTensor {
    get("dtype").oneOf(DType.F32.label)
    val role = get("role").oneOf(*STATE_ROLES)
    return StateTensor(get("name").name(), get("shape").shape(), role, get("group").name())
}

private fun Fields.program(files: Map<String, FileEntry>): List<ProgramMethod> {
    val file = get("file").fileName()
    if (file !in files) throw FormatError("programs: $file isn't among the files")
    return get("methods").table().map { (name, place) ->
        place.fields { ProgramMethod(name, file, specs("inputs"), specs("outputs")) }
    }
}

private fun Fields.specs(key: String): List<TensorSpec> = get(key).items().map { place ->
    place.fields {
        val label = get("dtype").oneOf(*DType.entries.map { it.label }.toTypedArray())
        val dtype = DType.entries.first { it.label == label }
        TensorSpec(get("name").name(), get("role").oneOf(*ROLES), dtype, get("shape").shape())
    }
}

private fun Fields.transition() = Transition(
    sources = get("sources").items().map { it.name() },
    target = get("target").name(),
    zero = get("zero").items().map { it.oneOf(*STATE_ROLES) },
    gather = get("gather").items().map { it.fields { rows() } },
    scatter = get("scatter").items().map { it.fields { rows() } },
)

private fun Fields.rows() =
    Rows(get("source").name(), get("target").name(), get("indices").name(), get("axis").count())

private fun Fields.methodName(): String = methodInfo().first

private fun Fields.layersBelow(): Int = methodInfo().second

private fun Fields.methodInfo(): Pair<String, Int> {
    get("options").table()
    get("first_layer").optional { count() }
    return get("name").name() to get("layers_below").count()
}

private fun Fields.backbone() {
    get("name").text()
    get("architecture").name()
    get("depth").positive()
    get("hidden").positive()
    get("pooling").name()
    get("precision").oneOf("fp32", "int8", "int4")
    get("sha256").hash()
}

private fun Fields.task(): TaskInfo {
    val name = get("name").oneOf(*TASKS.keys.toTypedArray())
    get("metric").oneOf(TASKS.getValue(name).metrics.first())
    val labels = get("labels").items().map { it.text() }
    return TaskInfo(name, labels, get("spare_labels").count(), get("pair").boolean())
}

private fun Fields.tokens(): TokensInfo {
    val inputs = get("inputs").items().map { it.oneOf(INPUT_IDS, TOKEN_TYPE_IDS, ATTENTION_MASK) }
    return TokensInfo(inputs, get("pad_id").count(), get("max_length").positive())
}

private fun Fields.optimizer(): OptimizerInfo {
    get("name").name()
    get("weight_decay").amount()
    get("clip_norm").amount()
    val moments = get("moments").items().map { it.name() }
    if (moments.isEmpty()) throw FormatError("optimizer: has no moment")
    return OptimizerInfo(moments.first(), get("first_gradient_factor").amount().toFloat())
}

private fun Fields.recipe() {
    get("piece_rate").amount()
    get("head_rate").amount()
    get("epochs").positive()
    get("schedule").oneOf(*SCHEDULES)
    get("warmup").share()
    get("accumulate").positive()
}

private fun Fields.memory() = MemoryInfo(
    get("activations").count(),
    get("weights").count(),
    get("state").count(),
    get("features").count(),
    get("peak").count(),
    get("recompute").boolean(),
)

/** What a checkpoint must share with the artifact that loads it. */
private fun identity(method: Json, backbone: Json, task: Json, state: Json): Json.Table {
    val (methods, tasks) = (method as Json.Table).entries to (task as Json.Table).entries
    return Json.Table(
        mapOf(
            "method" to methods.getValue("name"),
            "options" to methods.getValue("options"),
            "first_layer" to methods.getValue("first_layer"),
            "backbone" to (backbone as Json.Table).entries.getValue("sha256"),
            "labels" to tasks.getValue("labels"),
            "spare_labels" to tasks.getValue("spare_labels"),
            "state" to Json.Text(sha256Hex(state.canonical())),
        ),
    )
}

/** What no single field shows. */
private fun checkWhole(manifest: Manifest, methods: List<ProgramMethod>) {
    val seqs = manifest.seqs
    checkUnique("state", manifest.state.map { it.name })
    checkUnique("programs", methods.map { it.name })
    checkUnique("task.labels", manifest.task.labels)
    checkUnique("tokens.inputs", manifest.tokens.inputs)
    if (seqs.isEmpty() || seqs != seqs.distinct().sorted() || manifest.tokens.maxLength != seqs.last()) {
        throw FormatError("shapes.seqs: not ascending up to tokens.max_length")
    }
    if (manifest.state.any { it.name.startsWith(BEST) || it.name == "__metadata__" }) {
        throw FormatError("state: a name is reserved for files")
    }
    for (name in manifest.files.keys) {
        Place(Json.Text(name), "files").fileName()
        if (name == MANIFEST || name == SIGNATURE || name == REPORTS) throw FormatError("files: $name can't be listed")
    }
    methods.forEach { checkSignature(it, manifest) }
    if (manifest.stateId != sha256Hex(manifest.identity.canonical())) {
        throw FormatError("state_id: doesn't follow from method, backbone, labels and state")
    }
}

private fun checkPhases(schema: Int, manifest: Manifest, methods: List<ProgramMethod>) {
    if (schema == PLAIN_SCHEMA && (manifest.phases.isNotEmpty() || !manifest.hasBackbone)) {
        throw FormatError("schema: an artifact of schema $PLAIN_SCHEMA has a backbone and no phases")
    }
    for (phase in manifest.phases.keys) {
        if (methods.none { it.name.startsWith("${phase}_") }) {
            throw FormatError("phases: '$phase' has no train method")
        }
    }
    for (transition in manifest.transitions) {
        (transition.sources + transition.target).firstOrNull { it !in manifest.phases }
            ?.let { throw FormatError("transitions: '$it' is not a phase") }
        for (source in transition.sources) {
            val lacking = transition.unmakeable(manifest.layout(source), manifest.layout(transition.target))
            if (lacking.isNotEmpty()) {
                throw FormatError(
                    "transitions: '${transition.target}' can't be made: it lacks '${lacking.first()}' as needed",
                )
            }
        }
    }
}

private fun checkUnique(what: String, names: List<String>) {
    if (names.distinct().size != names.size) throw FormatError("$what: a name occurs twice")
}

private fun checkSignature(method: ProgramMethod, manifest: Manifest) {
    val state = manifest.state.associateBy { it.name }
    val where = "programs: '${method.name}'"
    for (specs in listOf(method.inputs, method.outputs)) {
        checkUnique(where, specs.map { it.name })
        for (spec in specs) {
            val declared = spec.dtype == DType.F32 && state[spec.name]?.shape == spec.shape
            if (spec.isState && !declared) {
                throw FormatError("$where: '${spec.name}' isn't in the state as declared")
            }
        }
    }
    val seqs = method.inputs.filter { it.role == TensorSpec.TOKEN }.map { it.shape.drop(1) }
    for (spec in method.outputs.filter { it.role == TensorSpec.FEATURE }) {
        if (if (spec.perToken) listOf(spec.shape[1]) !in seqs else spec.shape.size != 2) {
            throw FormatError("$where: '${spec.name}' is neither [B, S, d] nor [B, d]")
        }
    }
    // Without this, swapping the sums would bring back those of two batches ago.
    val prefix = method.name.substringBefore('_')
    val phase = prefix.substringBeforeLast('.', manifest.firstPhase)
    val accumulates = prefix.substringAfterLast('.') == Manifest.ACCUMULATE
    if (accumulates && method.outputs.gradients() != manifest.applyMethod(phase).inputs.gradients()) {
        throw FormatError("$where doesn't add up the gradients that are applied")
    }
}

private fun List<TensorSpec>.gradients(): Set<String> =
    filter { it.role == TensorSpec.GRADIENT }.map { it.name }.toSet()
