package io.github.effine.tokenizer

import io.github.effine.FormatError
import io.github.effine.Place

/** What happens to tokens once they are found: offsets are trimmed, special tokens put around. */
internal class PostProcessor(private val trim: Trim? = null, private val template: Template = Template.PLAIN) {
    fun encoding(first: List<Entry>, second: List<Entry>?): Encoding =
        template.encoding(trimmed(first), second?.let(::trimmed))

    private fun trimmed(entries: List<Entry>) = trim?.apply(entries) ?: entries

    /** What this does, followed by what [other] does. */
    fun then(other: PostProcessor) =
        PostProcessor(other.trim ?: trim, if (other.template === Template.PLAIN) template else other.template)
}

internal fun postProcessor(place: Place): PostProcessor {
    val fields = place.table()
    fun trim() = if (fields.getValue("trim_offsets").boolean()) Trim(fields.getValue("add_prefix_space").boolean()) else null
    return when (val type = fields.getValue("type").string()) {
        "TemplateProcessing" -> PostProcessor(template = Template.read(fields))
        "BertProcessing" -> PostProcessor(template = Template.bert(fields))
        "RobertaProcessing" -> PostProcessor(trim(), Template.roberta(fields))
        "ByteLevel" -> PostProcessor(trim())
        "Sequence" -> fields.getValue("processors").items().map(::postProcessor).fold(PostProcessor(), PostProcessor::then)
        else -> unsupported("post-processor", type)
    }
}

/** The special tokens around the texts, and the token type of each text. */
internal class Template private constructor(private val single: List<Part>, private val pair: List<Part>) {
    /** Special tokens, or a text when [sequence] is 0 or 1. */
    private class Part(val ids: List<Int>, val sequence: Int, val type: Int)

    fun encoding(first: List<Entry>, second: List<Entry>?): Encoding {
        val texts = listOf(first, second.orEmpty())
        return Encoding(
            (if (second == null) single else pair).flatMap { part ->
                when (part.sequence) {
                    NONE -> part.ids.map { Entry(it, type = part.type) }
                    else -> texts[part.sequence].map { it.copy(type = part.type, sequence = part.sequence) }
                }
            },
        )
    }

    companion object {
        /** The texts alone, one after the other. */
        val PLAIN = Template(listOf(text(0, 0)), listOf(text(0, 0), text(1, 1)))

        fun read(fields: Map<String, Place>): Template {
            val special = fields.getValue("special_tokens").table()
                .mapValues { (_, token) -> token.table().getValue("ids").items().map { it.count() } }
            return Template(parts(fields.getValue("single"), special), parts(fields.getValue("pair"), special))
        }

        fun bert(fields: Map<String, Place>): Template {
            val single = listOf(special(fields, "cls", 0), text(0, 0), special(fields, "sep", 0))
            return Template(single, single + listOf(text(1, 1), special(fields, "sep", 1)))
        }

        fun roberta(fields: Map<String, Place>): Template {
            val (start, end) = special(fields, "cls", 0) to special(fields, "sep", 0)
            val single = listOf(start, text(0, 0), end)
            return Template(single, single + listOf(end, text(1, 0), end))
        }

        private fun text(sequence: Int, type: Int) = Part(emptyList(), sequence, type)

        private fun special(fields: Map<String, Place>, key: String, type: Int) =
            Part(listOf(fields.getValue(key).items()[1].count()), NONE, type)

        private fun parts(place: Place, special: Map<String, List<Int>>): List<Part> = place.items().map { item ->
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
