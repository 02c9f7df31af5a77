package io.github.effine

private const val SCHEMA = 1L

internal fun Contents.toJson(): Json = Json.Table(
    mapOf(
        "schema" to Json.Whole(SCHEMA),
        "labels" to Json.texts(labels),
        "examples" to Json.Items(examples.map { it.toJson() }),
        "next_example" to Json.Whole(nextExample),
        "learned" to Json.Whole(learned),
        "forgotten" to Json.of(forgotten),
        "states" to Json.Items(states.map { it.toJson() }),
        "next_state" to Json.Whole(nextState),
        "run" to (run?.toJson() ?: Json.Null),
        "reports" to Json.Items(reports.map { it.toJson() }),
    ),
)

/** Reads what [toJson] wrote; throws [FormatError]. */
internal fun contents(text: String): Contents {
    val place = Place(Json.parse(text), "")
    val schema = place.table()["schema"]?.whole(1, Long.MAX_VALUE)
    if (schema != null && schema > SCHEMA) {
        throw FormatError("schema $schema is newer than this version reads ($SCHEMA); update effine")
    }
    return place.fields {
        get("schema").whole(SCHEMA, SCHEMA)
        Contents(
            labels = get("labels").items().map { it.text() },
            examples = get("examples").items().map { it.fields { storedExample() } },
            nextExample = get("next_example").number64(),
            learned = get("learned").number64(),
            forgotten = get("forgotten").count(),
            states = get("states").items().map { it.fields { learnedState() } },
            nextState = get("next_state").number64(),
            run = get("run").optional { fields { openRun() } },
            reports = get("reports").items().map { UpdateReport.of(it) },
        ).also { if (it.states.isEmpty()) throw FormatError("states: none is in use") }
    }
}

private fun Place.number64(): Long = whole(0, Long.MAX_VALUE)

private fun LearnedState.toJson() =
    Json.Table(mapOf("id" to Json.Whole(id), "forgotten" to Json.of(forgotten)))

private fun Fields.learnedState() = LearnedState(get("id").number64(), get("forgotten").count())

private fun OpenRun.toJson() = Json.Table(
    mapOf(
        "id" to Json.Whole(id),
        "from" to Json.Whole(from),
        "until" to Json.Whole(until),
        "labels" to Json.of(labels),
        "class_weights" to Json.of(classWeights),
        "artifact" to Json.Text(artifact),
    ),
)

private fun Fields.openRun() = OpenRun(
    id = get("id").number64(),
    from = get("from").number64(),
    until = get("until").number64(),
    labels = get("labels").count(),
    classWeights = get("class_weights").optional { string() },
    artifact = get("artifact").hash(),
)

private fun StoredExample.toJson() = Json.Table(
    mapOf("id" to Json.Whole(id), "held_out" to Json.Bool(heldOut)) + listOfNotNull(
        "text" to Json.Text(example.text),
        example.textB?.let { "text_b" to Json.Text(it) },
        example.label?.let { "label" to Json.Text(it) },
        example.score?.let { "score" to Json.Real(it) },
        example.labels?.let { "labels" to Json.texts(it) },
    ),
)

private fun Fields.storedExample() = StoredExample(
    id = get("id").number64(),
    heldOut = get("held_out").boolean(),
    example = Example(
        text = get("text").string(),
        textB = find("text_b")?.string(),
        label = find("label")?.string(),
        score = find("score")?.number(),
        labels = find("labels")?.items()?.map { it.string() },
    ),
)
