package io.github.effine.runner

import io.github.effine.Answer
import io.github.effine.Artifact
import io.github.effine.Bundle
import io.github.effine.DEFAULT_BOUND
import io.github.effine.Dataset
import io.github.effine.EffineError
import io.github.effine.Engine
import io.github.effine.Example
import io.github.effine.Json
import io.github.effine.Place
import io.github.effine.Prediction
import io.github.effine.ProgramMethod
import io.github.effine.Progress
import io.github.effine.Replay
import io.github.effine.Settings
import io.github.effine.TensorFile
import io.github.effine.TensorSpec
import io.github.effine.Trainer
import io.github.effine.canonical
import io.github.effine.publicKey
import io.github.effine.readTokens
import io.github.effine.selfTest
import io.github.effine.tokenizer.Tokenizer
import java.io.File
import kotlin.system.exitProcess
import org.pytorch.executorch.EValue
import org.pytorch.executorch.training.TrainingModule

private const val USAGE = """usage: replay ARTIFACT RESULT.safetensors [--through FILE] [--accumulated]
             [--threads N]
       train ARTIFACT --data TOKENS --out RUN.ckpt [--eval TOKENS] [--epochs N] [--piece-rate X]
             [--head-rate X] [--schedule NAME] [--warmup SHARE] [--accumulate BATCHES] [--seed N]
             [--patience N] [--cache-precision fp32|fp16|int8] [--phase NAME] [--add-label NAME]
             [--cache FILE] [--cache-size SIZE] [--checkpoint-every N] [--stop-after UPDATES] [--resume]
             [--threads N]
       predict ARTIFACT --data TOKENS --state RUN.ckpt [--threads N]
       bench ARTIFACT --data TOKENS --cache FILE [--steps N] [--warmup N] [--threads N]
       personalize ARTIFACT --home FOLDER --data EXAMPLES.jsonl [--learn EXAMPLES.jsonl] [--epochs N ...]
             [--checkpoint-every N] [--stop-after UPDATES] [--threads N]
       self-test ARTIFACT
       verify ARTIFACT... [--bundles] [--key PEM]
       install ARCHIVE... --home FOLDER --key PEM
       check TOKENIZER.json...
       tokenize TOKENIZER.json TEXTS.jsonl ENCODINGS.jsonl [--max-length N]
       rewrite FROM.safetensors TO.safetensors"""

internal val SETTINGS = setOf(
    "--epochs", "--piece-rate", "--head-rate", "--schedule", "--warmup", "--accumulate", "--seed", "--patience",
    "--cache-precision", "--phase",
)
private val RUN = setOf(
    "--data", "--eval", "--out", "--add-label", "--cache", "--cache-size", "--checkpoint-every", "--stop-after", "--threads",
)

/** The SDK as a command, for tests and `effine parity --on jvm`. */
fun main(arguments: Array<String>) {
    val rest = arguments.drop(1)
    try {
        when (arguments.firstOrNull()) {
            "replay" -> replay(rest)
            "train" -> train(rest)
            "predict" -> predict(rest)
            "bench" -> bench(rest)
            "personalize" -> personalize(rest)
            "self-test" -> println(Artifact.open(File(Arguments(rest, emptySet()).words.single())).selfTest(1))
            "verify" -> verify(rest)
            "install" -> install(rest)
            "check" -> check(rest)
            "tokenize" -> tokenize(rest)
            "rewrite" -> rewrite(rest)
            else -> throw UsageError(USAGE)
        }
    } catch (error: UsageError) {
        System.err.println(error.message)
        exitProcess(2)
    } catch (error: Exception) {
        if (error !is EffineError) error.printStackTrace()
        System.err.println(error.message ?: error.toString())
        exitProcess(1)
    }
}

private fun replay(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--threads", "--through"), setOf("--accumulated"))
    val (folder, result) = arguments.words
    val artifact = Artifact.open(File(folder))
    val through = if (arguments.has("--through")) File(arguments.text("--through")) else null
    Engine(artifact, arguments.whole("--threads")).use { engine ->
        val tensors = Replay(artifact, engine, through, arguments.has("--accumulated")).run()
        TensorFile(tensors, mapOf("format" to "effine replay")).write(File(result))
    }
}

private fun train(rest: List<String>) {
    val arguments = Arguments(rest, SETTINGS + RUN, setOf("--resume"))
    val artifact = Artifact.open(File(arguments.words.single()))
    val out = File(arguments.text("--out"))
    val every = arguments.whole("--checkpoint-every") ?: 50
    val limit = arguments.whole("--stop-after") ?: Int.MAX_VALUE
    val cache = if (arguments.has("--cache")) File(arguments.text("--cache")) else null
    val bound = arguments.bytes("--cache-size") ?: DEFAULT_BOUND
    val engine = CountingEngine(artifact, arguments.whole("--threads"))
    Trainer(artifact, engine, cache, bound, { if (cache != null) println(it) }).use { trainer ->
        if (arguments.has("--add-label")) trainer.addLabel(arguments.text("--add-label"))
        val data = trainer.read(arguments.text("--data"), artifact)
        val eval = if (arguments.has("--eval")) trainer.read(arguments.text("--eval"), artifact) else null
        var updates = 0
        val callback = { progress: Progress ->
            if (progress.metrics == null && ++updates == limit) trainer.cancel()
            if (progress.metrics != null) println("epoch ${progress.epoch}: loss ${progress.loss}")
        }
        val report = if (arguments.has("--resume")) {
            trainer.resume(out, data, eval, settings(arguments), every, callback)
        } else {
            trainer.fit(data, eval, settings(arguments), out, every, callback)
        }
        report.warnings.forEach { println("warning: $it") }
        println("backbone: ${engine.backboneCalls} calls")
    }
}

/** A tokens file, or examples as JSON lines. */
private fun Trainer.read(path: String, artifact: Artifact): Dataset {
    if (!path.endsWith(".jsonl")) return readTokens(File(path), artifact)
    val examples = File(path).readLines().map { line ->
        example(Place(Json.parse(line), path).table())
    }
    return dataset(examples)
}

internal fun example(fields: Map<String, Place>) = Example(
    (fields["text"] ?: fields["question"])?.string() ?: "",
    fields["label"]?.string(),
    (fields["text_b"] ?: fields["context"])?.string(),
    fields["score"]?.number(),
    fields["labels"]?.strings(),
    fields["tokens"]?.strings(),
    fields["tags"]?.strings(),
    fields["answers"]?.items()?.map { it.table() }?.map { Answer(it.getValue("text").string(), it.getValue("start").count()) },
)

private fun Place.strings() = items().map { it.string() }

internal fun settings(arguments: Arguments) = Settings(
    epochs = arguments.whole("--epochs"),
    pieceRate = arguments.number("--piece-rate"),
    headRate = arguments.number("--head-rate"),
    schedule = if (arguments.has("--schedule")) arguments.text("--schedule") else null,
    warmup = arguments.number("--warmup"),
    accumulate = arguments.whole("--accumulate"),
    seed = if (arguments.has("--seed")) arguments.text("--seed").toULong() else null,
    patience = arguments.whole("--patience"),
    cachePrecision = if (arguments.has("--cache-precision")) arguments.text("--cache-precision") else null,
    phase = if (arguments.has("--phase")) arguments.text("--phase") else null,
)

/** Knows how often the backbone was computed. */
private class CountingEngine(artifact: Artifact, threads: Int?) : Engine(artifact, threads) {
    var backboneCalls = 0
        private set

    override fun execute(module: TrainingModule, method: ProgramMethod, inputs: Array<EValue>): Array<EValue> {
        if (method.outputs.any { it.role == TensorSpec.FEATURE }) backboneCalls++
        return super.execute(module, method, inputs)
    }
}

/** Prints a line for each example; see [shown]. */
private fun predict(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--data", "--state", "--threads"))
    val artifact = Artifact.open(File(arguments.words.single()))
    Trainer(artifact, arguments.whole("--threads")).use { trainer ->
        trainer.load(File(arguments.text("--state")))
        trainer.predict(trainer.read(arguments.text("--data"), artifact)).forEach { println(shown(it)) }
    }
}

/**
 * The label with its probability, the score, the labels with all probabilities, the tags with their
 * entities and probabilities, or the answer with its place and probability.
 */
private fun shown(found: Prediction): String {
    val (label, labels) = found.label to found.labels
    val (words, answer) = found.words to found.answer
    return when {
        label != null -> "$label\t${found.probabilities.getValue(label)}"
        labels != null -> "${labels.joinToString("|")}\t${found.probabilities.values.joinToString("\t")}"
        words != null -> {
            val entities = found.entities!!.map { "${it.label}:${it.start}:${it.end}:${it.text}" }
            listOf(words.map { it.tag }, entities, words.map { "${it.probability}" })
                .joinToString("\t") { it.joinToString("|") }
        }
        answer != null -> "${answer.text}\t${answer.start}\t${answer.end}\t${answer.probability}"
        else -> "\t${found.score}"
    }
}

/** Prints `ok` or the reason for refusing, one line for each tokenizer. */
private fun check(rest: List<String>) {
    for (file in Arguments(rest, emptySet()).words.map(::File)) {
        tell {
            Tokenizer.read(file)
            "ok"
        }
    }
}

/** Prints `ok` or the reason for refusing, one line for each artifact or bundle. */
private fun verify(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--key"), setOf("--bundles"))
    val key = if (arguments.has("--key")) publicKey(File(arguments.text("--key")).readText()) else null
    for (folder in arguments.words.map(::File)) {
        tell {
            if (arguments.has("--bundles")) Bundle.open(folder, key) else Artifact.open(folder, key)
            "ok"
        }
    }
}

/** Installs one after the other; prints version and orphans, or the reason for refusing. */
private fun install(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--home", "--key"))
    val key = publicKey(File(arguments.text("--key")).readText())
    for (archive in arguments.words) {
        tell {
            val done = Bundle.install(File(archive), File(arguments.text("--home")), key)
            "version ${done.bundle.version}" + done.orphans.joinToString("") { " $it" }
        }
    }
}

private fun tell(done: () -> String) = println(
    try {
        done()
    } catch (error: EffineError) {
        "${error.javaClass.simpleName} ${error.message}"
    },
)

/** Encodes lines that are a text or a list of two as ids, types, offsets, words and sequences. */
private fun tokenize(rest: List<String>) {
    val arguments = Arguments(rest, setOf("--max-length"))
    val (tokenizer, texts, encodings) = arguments.words.map(::File)
    val longest = arguments.whole("--max-length") ?: Int.MAX_VALUE
    val reader = Tokenizer.read(tokenizer)
    encodings.bufferedWriter().use { out ->
        for (line in texts.readLines()) {
            val json = Json.parse(line)
            val pair = if (json is Json.Items) Place(json, line).items().map { it.string() } else null
            val text = if (json is Json.Text) json.value else pair!![0]
            val found = reader.encode(text, pair?.get(1)).truncated(longest)
            val offsets = found.offsets.map { Json.Items(listOf(Json.of(it.first), Json.of(it.last + 1))) }
            val lists = listOf(found.ids, found.typeIds, found.words, found.sequences)
                .map { list -> Json.Items(list.map { Json.of(it) }) }.toMutableList()
            lists.add(2, Json.Items(offsets))
            out.write(Json.Items(lists).canonical() + "\n")
        }
    }
}

private fun rewrite(rest: List<String>) {
    val (from, to) = Arguments(rest, emptySet()).words
    TensorFile.read(File(from)).write(File(to))
}
