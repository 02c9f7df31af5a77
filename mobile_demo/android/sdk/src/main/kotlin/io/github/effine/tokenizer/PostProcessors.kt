package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place

/** What stands around the texts: special tokens, and which text gets which token type. */
internal class Template(private val single: List<Part>, private val pair: List<Part>) {
    /** Special tokens, or a text when [sequence] is 0 or 1. */
    class Part(val ids: IntArray, val sequence: Int, val type: Int)

    fun encoding(first: List<Entry>, second: List<Entry>?): Encoding {
        val entries = ArrayList<Entry>()
        for (part in if (second == null) single else pair) {
            when (part.sequence) {
                0 -> first.mapTo(entries) { it.with(part.type, 0) }
                1 -> second.orEmpty().mapTo(entries) { it.with(part.type, 1) }
                else -> part.ids.mapTo(entries) { Entry(it, 0, 0, NONE, part.type, NONE) }
            }
        }
        return Encoding(entries)
    }

    companion object {
        /** Without a post-processor the texts follow one another. */
        val PLAIN = Template(listOf(text(0, 0)), listOf(text(0, 0), text(1, 1)))

        fun read(place: Place): Template {
            val fields = place.table()
            return when (val type = fields.getValue("type").string()) {
                "TemplateProcessing" -> {
                    val special = fields.getValue("special_tokens").table()
                        .mapValues { (_, token) -> token.table().getValue("ids").items().map { it.count() }.toIntArray() }
                    Template(parts(fields.getValue("single"), special), parts(fields.getValue("pair"), special))
                }
                "BertProcessing" -> {
                    val (start, end) = special(fields, "cls") to special(fields, "sep")
                    val single = listOf(Part(start, NONE, 0), text(0, 0), Part(end, NONE, 0))
                    Template(single, single + listOf(text(1, 1), Part(end, NONE, 1)))
                }
                else -> unsupported("post-processor", type)
            }
        }

        private fun text(sequence: Int, type: Int) = Part(IntArray(0), sequence, type)

        private fun special(fields: Map<String, Place>, key: String) =
            intArrayOf(fields.getValue(key).items()[1].count())

        private fun parts(place: Place, special: Map<String, IntArray>): List<Part> = place.items().map { item ->
            val (kind, content) = item.table().entries.single()
            val fields = content.table()
            val (id, type) = fields.getValue("id").string() to fields.getValue("type_id").count()
            when (kind) {
                "Sequence" -> text(if (id == "A") 0 else 1, type)
                else -> Part(special[id] ?: throw FormatError("post-processor: '$id' has no ids"), NONE, type)
            }
        }
    }
}
