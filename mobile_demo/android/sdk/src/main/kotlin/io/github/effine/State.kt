package io.github.effine

/** Everything that training changes: parameters and moments by name, in manifest order. */
class State internal constructor(internal val tensors: LinkedHashMap<String, Tensor>) {
    operator fun get(name: String): Tensor =
        tensors[name] ?: throw StateError("the state has no tensor '$name'")

    val names: Set<String> get() = tensors.keys

    internal fun copyFrom(other: State) {
        for ((name, tensor) in tensors) tensor.copyFrom(other[name])
    }

    internal fun isFinite(): Boolean = tensors.values.all { it.isFinite() }

    internal fun zeroMoments(manifest: Manifest) {
        for (entry in manifest.state) if (!entry.isParameter) get(entry.name).zero()
    }

    /** Copies of the parameters alone, in manifest order. */
    internal fun parameters(manifest: Manifest): Tensors =
        manifest.parameters.associate { it.name to get(it.name).copy() }

    internal companion object {
        /** A state of zeros. */
        fun zeros(manifest: Manifest): State =
            State(manifest.state.associateTo(LinkedHashMap()) { it.name to Tensor(DType.F32, it.shape) })

        /**
         * A state over the given tensors.
         *
         * @param zeroMoments the tensors are the parameters alone, and the moments become zero.
         */
        fun of(manifest: Manifest, tensors: Tensors, zeroMoments: Boolean = false): State {
            val layout = if (zeroMoments) manifest.parameters else manifest.state
            checkLayout(layout, tensors)
            return State(
                manifest.state.associateTo(LinkedHashMap()) {
                    it.name to (tensors[it.name] ?: Tensor(DType.F32, it.shape))
                },
            )
        }

        /** Throws [FormatError] with every name, shape and dtype that differs from the layout. */
        fun checkLayout(layout: List<StateTensor>, tensors: Tensors) {
            val problems = layout.mapNotNull { entry ->
                val tensor = tensors[entry.name]
                when {
                    tensor == null -> "'${entry.name}' is missing"
                    tensor.dtype != DType.F32 || tensor.shape != entry.shape ->
                        "'${entry.name}' is ${describe(tensor.dtype, tensor.shape)}, " +
                            "not ${describe(DType.F32, entry.shape)}"
                    else -> null
                }
            } + (tensors.keys - layout.map { it.name }.toSet()).map { "'$it' is unknown" }
            if (problems.isNotEmpty()) throw FormatError("doesn't fit the artifact: ${problems.joinToString("; ")}")
        }
    }
}
