package io.github.effine

import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer

internal const val INPUT_IDS = "input_ids"
internal const val TOKEN_TYPE_IDS = "token_type_ids"
internal const val ATTENTION_MASK = "attention_mask"
private const val PROBES = 4

/** Tensors that are allocated once for each program method and name, and used again by every call. */
internal class Buffers {
    private val tensors = HashMap<String, Tensor>()

    fun of(method: ProgramMethod, spec: TensorSpec): Tensor =
        tensors.getOrPut("${method.name} ${spec.name}") { Tensor(spec.dtype, spec.shape) }
}

/**
 * Features of a batch from the backbone program or the cache; without a backbone they are the token inputs.
 *
 * Where encoder layers lie below the cut, a sample's features are always computed alone, at the
 * smallest shape that fits it and with zeros at padding, and used as the cache would store them, so
 * that a cached and a recomputed run agree bit for bit. Otherwise (embedding sums) the whole batch is
 * computed and nothing is cached.
 *
 * @param file of the cache, kept between runs; null recomputes features every time.
 * @param bound the largest size of the cache in bytes.
 */
internal class FeatureSource(
    private val artifact: Artifact,
    private val engine: Engine,
    private val file: File?,
    private val bound: Long,
) : Closeable {
    private val manifest = artifact.manifest
    private val buffers = Buffers()
    private val batches = Buffers()
    private var packing = Packing(manifest, EXACT)
    private var cache: FeatureCache? = null
    private var phase = manifest.firstPhase
    private var held = emptyMap<String, Tensor>()

    /** How many samples the cache couldn't take. */
    val uncached: Int get() = cache?.uncached ?: 0

    /** Computes the features of a phase from now on, with what its backbone reads of the state. */
    fun enter(phase: String, state: State) {
        val before = held
        held = if (!manifest.hasBackbone) emptyMap() else manifest.backboneMethod(1, manifest.seqs.first(), phase).inputs
            .filter { it.role == TensorSpec.READ }.associate { it.name to state[it.name] }
        if (phase != this.phase || held.any { (name, tensor) -> before[name] !== tensor }) close()
        this.phase = phase
    }

    /** Rounds features as a cache of this precision does. */
    fun use(precision: String) {
        if (precision == packing.precision) return
        packing = Packing(manifest, precision)
        close()
    }

    /**
     * Opens the cache for a run, which can't change its result.
     *
     * @param passes the training data, going through which is an epoch, then any others.
     * @return what the cache will save, as a line for people.
     */
    fun begin(precision: String, passes: List<Passes>): String {
        use(precision)
        if (!deep) return "cache: none, no encoder layer lies below the cut"
        if (file == null) return "cache: none, it is switched off"
        val cache = this.cache ?: FeatureCache(file, artifact, packing, bound, phase, held.values)
        this.cache = cache
        val samples = passes.flatMap { data -> data.samples.map { sample(cache, it, data.count) } }
        val missing = samples.filter { !it.stored }
        val start = "cache: $precision"
        if (missing.isEmpty()) return "$start, ${megabytes(cache.size)}, holds all ${grouped(samples.size)} samples"
        val speed = measure(cache, missing.filter { it.padded == missing[0].padded }.take(PROBES))
        val epochs = passes[0].count
        return "$start, ${estimate(samples, cache.size, cache.bound, speed)} over " +
            if (epochs == 1) "1 epoch" else "$epochs epochs"
    }

    /** Features and mask of some samples, padded to [batch] rows of [seq] tokens, until the next call. */
    fun batch(samples: List<Tokens>, batch: Int, seq: Int): Tensors {
        val declares = if (manifest.hasBackbone) manifest::backboneMethod else manifest::predictMethod
        val method = declares(batch, seq, phase)
        val tokens = tokens(method, samples)
        if (!manifest.hasBackbone) return tokens
        val features = if (deep) gathered(method, samples) else compute(method, tokens)
        return features + (ATTENTION_MASK to tokens.getValue(ATTENTION_MASK))
    }

    /** Releases the cache's file. */
    override fun close() {
        cache?.close()
        cache = null
    }

    /** Whether encoder layers lie below the cut. */
    private val deep: Boolean get() = manifest.layersBelow(phase) > 0

    private fun gathered(method: ProgramMethod, samples: List<Tokens>): Tensors {
        val features = method.outputs.associate { it.name to batches.of(method, it) }
        features.values.forEach { it.zero() }
        samples.forEachIndexed { row, sample -> packing.unpack(payload(sample), sample.ids.size, features, row) }
        return features
    }

    /** A sample's features as stored; until the next call. */
    private fun payload(sample: Tokens): ByteBuffer {
        val (method, tokens) = alone(sample)
        val key = cache?.let { sampleKey(tokens) } ?: return computed(method, tokens, sample)
        return cache?.get(key) ?: computed(method, tokens, sample).also { cache?.put(key, sample.ids.size, it) }
    }

    private fun computed(method: ProgramMethod, tokens: Tensors, sample: Tokens): ByteBuffer =
        packing.pack(compute(method, tokens), sample.ids.size)

    private fun alone(sample: Tokens): Pair<ProgramMethod, Tensors> {
        val method = manifest.backboneMethod(1, manifest.seqFor(sample.ids.size), phase)
        return method to tokens(method, listOf(sample))
    }

    private fun compute(method: ProgramMethod, tokens: Tensors): Tensors {
        val features = method.outputs.associate { it.name to buffers.of(method, it) }
        engine.run(method, { tokens[it.name] ?: held.getValue(it.name) }, { features.getValue(it.name) })
        return features
    }

    private fun sample(cache: FeatureCache, tokens: Tokens, uses: Int): CachedSample {
        val length = tokens.ids.size
        val stored = !cache.isEmpty && sampleKey(alone(tokens).second) in cache
        return CachedSample(tokens, manifest.seqFor(length), cache.recordSize(length), uses, stored)
    }

    /** Computes, stores and reads some samples; the first, which loads the program, is left out if it can. */
    private fun measure(cache: FeatureCache, probes: List<CachedSample>): CacheSpeed {
        val measured = probes.map { probe ->
            val (method, tokens) = alone(probe.tokens)
            val key = sampleKey(tokens)
            val times = LongArray(4)
            times[0] = System.nanoTime()
            val payload = computed(method, tokens, probe.tokens)
            times[1] = System.nanoTime()
            cache.put(key, probe.tokens.ids.size, payload)
            times[2] = System.nanoTime()
            cache.get(key)
            times[3] = System.nanoTime()
            val size = probe.size.toDouble()
            listOf(probe.padded.toDouble(), size, size).mapIndexed { i, units -> (times[i + 1] - times[i]) / 1e9 / units }
        }
        val counted = if (measured.size > 1) measured.drop(1) else measured
        val (compute, store, read) = List(3) { part -> counted.minOf { it[part] } }
        return CacheSpeed(compute, store, read)
    }

    /** Token inputs; rows beyond the samples have one token of padding unmasked, so that no mean is empty. */
    private fun tokens(method: ProgramMethod, samples: List<Tokens>): Tensors {
        val inputs = method.inputs.filter { it.name in manifest.tokens.inputs }
            .associate { it.name to buffers.of(method, it) }
        for ((name, tensor) in inputs) {
            val (rows, columns) = tensor.shape
            val values = tensor.longs()
            for (row in 0 until rows) {
                val sample = samples.getOrNull(row)
                for (column in 0 until columns) values.put(row * columns + column, value(name, sample, column))
            }
        }
        return inputs
    }

    private fun value(input: String, sample: Tokens?, column: Int): Long {
        val inside = column < (sample?.ids?.size ?: 0)
        return when (input) {
            INPUT_IDS -> if (inside) sample!!.ids[column] else manifest.tokens.padId
            TOKEN_TYPE_IDS -> if (inside) sample!!.typeIds[column] else 0
            else -> if (inside || (sample == null && column == 0)) 1 else 0
        }.toLong()
    }
}
