package io.github.effine.runner

/** The command was used wrongly. */
internal class UsageError(message: String) : Exception(message)

/** A command's words, its `--name value` options and its flags without a value. */
internal class Arguments(arguments: List<String>, private val options: Set<String>, flags: Set<String> = emptySet()) {
    val words = ArrayList<String>()
    private val values = HashMap<String, String>()

    init {
        val rest = arguments.iterator()
        for (argument in rest) {
            when {
                argument in flags -> values[argument] = ""
                argument in options ->
                    values[argument] = if (rest.hasNext()) rest.next() else throw UsageError("$argument needs a value")
                argument.startsWith("--") -> throw UsageError("$argument: unknown option")
                else -> words += argument
            }
        }
    }

    fun has(option: String): Boolean = option in values

    fun text(option: String): String = values[option] ?: throw UsageError("$option is missing")

    fun whole(option: String): Int? = values[option]?.let {
        it.toIntOrNull() ?: throw UsageError("$option needs a whole number")
    }

    fun bytes(option: String): Long? = values[option]?.let {
        val (count, unit) = Regex("(\\d{1,9})(|kB|MB|GB)").matchEntire(it)?.destructured
            ?: throw UsageError("$option needs a size such as 512MB")
        count.toLong() * mapOf("" to 1L, "kB" to 1_000L, "MB" to 1_000_000L, "GB" to 1_000_000_000L).getValue(unit)
    }

    fun number(option: String): Double? = values[option]?.let {
        it.toDoubleOrNull() ?: throw UsageError("$option needs a number")
    }
}
