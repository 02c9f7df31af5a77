package io.github.effine

/** Everything that training changes: parameters, moments and statistics by name, in manifest order. */
class State internal constructor(internal val tensors: LinkedHashMap<String, Tensor>) {
    operator fun get(name: String): Tensor =
        tensors[name] ?: throw StateError("the state has no tensor '$name'")

    val names: Set<String> get() = tensors.keys

    /** Takes what [method] has put into [other], which gets the tensors that were here; the rest stays. */
    internal fun exchange(other: State, method: ProgramMethod) {
        for (spec in method.outputs.filter { it.isState }) {
            other.tensors[spec.name] = tensors.put(spec.name, other[spec.name])!!
        }
    }

    /** Zero but for the parameters. */
    internal fun zeroMoments(layout: List<StateTensor>) {
        for (entry in layout) if (!entry.isParameter) get(entry.name).zero()
    }

    /** Copies of the parameters alone, in manifest order. */
    internal fun parameters(layout: List<StateTensor>): Tensors =
        layout.filter { it.isParameter }.associate { it.name to get(it.name).copy() }

    internal companion object {
        /** A state of zeros. */
        fun zeros(layout: List<StateTensor>): State =
            State(layout.associateTo(LinkedHashMap()) { it.name to Tensor(DType.F32, it.shape) })

        /**
         * A state over the given tensors.
         *
         * @param zeroMoments the tensors are the parameters alone, and all else becomes zero.
         */
        fun of(layout: List<StateTensor>, tensors: Tensors, zeroMoments: Boolean = false): State {
            checkLayout(if (zeroMoments) layout.filter { it.isParameter } else layout, tensors)
            return State(
                layout.associateTo(LinkedHashMap()) {
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
