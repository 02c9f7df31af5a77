package io.github.effine

/** The rows that a transition takes, by name. */
internal typealias Indices = Map<String, List<Int>>

/** Rows along [axis]: taken from [source] (gather), or put into [target] (scatter); [indices] names which. */
internal class Rows(val source: String, val target: String, val indices: String, val axis: Int)

/**
 * How the state of any of the phases [sources] becomes that of the phase [target].
 *
 * Each tensor of the target is zero if its role is in [zero], made of rows if it is a target of
 * [gather] or [scatter], and otherwise kept. A phase may lead to itself.
 */
internal class Transition(
    val sources: List<String>,
    val target: String,
    val zero: List<String>,
    val gather: List<Rows>,
    val scatter: List<Rows>,
) {
    /** Whether the optimizer starts afresh. */
    val restarts: Boolean get() = StateTensor.MOMENT in zero

    /** The state of the target phase, whose [layout] is given; [indices] by name. Kept tensors are shared. */
    fun moved(layout: List<StateTensor>, state: Tensors, indices: Indices): LinkedHashMap<String, Tensor> {
        val made = (gather + scatter).map { it.target }.toSet()
        val result = layout.associateTo(LinkedHashMap()) {
            val kept = it.role !in zero && it.name !in made
            it.name to if (kept) state.getValue(it.name) else Tensor(DType.F32, it.shape)
        }
        fun chosen(rows: Rows): List<Int> =
            indices[rows.indices] ?: throw StateError("the rows ${rows.indices} are not given")
        for (rows in gather) chosen(rows).forEachIndexed { i, row -> copyRow(rows, state, row, result, i) }
        for (rows in scatter) chosen(rows).forEachIndexed { i, row -> copyRow(rows, state, i, result, row) }
        return result
    }

    /** The tensors that this asks for and that the layout before or after it doesn't have. */
    fun unmakeable(before: List<StateTensor>, after: List<StateTensor>): Set<String> {
        val shapes = before.associate { it.name to it.shape }
        val targets = after.associate { it.name to it.shape }
        val rows = gather + scatter
        val made = rows.map { it.target }.toSet()
        val missing = rows.filterNot { alike(shapes[it.source], targets[it.target], it.axis) }.map { it.source }
        val changed = after.filter { it.role !in zero && it.name !in made && shapes[it.name] != it.shape }
        return missing.toSet() + changed.map { it.name }
    }
}

/** Whether two tensors are there and have the same rows along an axis. */
private fun alike(from: List<Int>?, to: List<Int>?, axis: Int): Boolean {
    if (from == null || to == null || axis >= from.size || from.size != to.size) return false
    return from.indices.all { it == axis || from[it] == to[it] }
}

private fun copyRow(rows: Rows, from: Tensors, row: Int, to: Tensors, place: Int) {
    val (source, target) = from.getValue(rows.source) to to.getValue(rows.target)
    val (height, places) = source.shape[rows.axis] to target.shape[rows.axis]
    if (row !in 0 until height || place !in 0 until places) {
        throw StateError("${rows.indices} has an index beyond the rows of ${rows.source}")
    }
    val size = source.shape.drop(rows.axis + 1).fold(1, Int::times)
    for (block in 0 until source.count / (height * size)) {
        val values = source.floats()
        values.position((block * height + row) * size)
        values.limit(values.position() + size)
        target.floats().also { it.position((block * places + place) * size) }.put(values)
    }
}
