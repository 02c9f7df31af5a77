package io.github.effine.tokenizer

import io.github.effine.AGAIN
import io.github.effine.ArtifactError
import io.github.effine.FormatError
import io.github.effine.Json
import io.github.effine.Place
import io.github.effine.strictUtf8
import java.io.File
import java.nio.ByteBuffer

/** A Hugging Face tokenizer, from its tokenizer.json; gives the same tokens, offsets and words. */
class Tokenizer private constructor(
    private val before: AddedTokens,
    private val after: AddedTokens,
    private val normalizer: Normalizer,
    private val preTokenizer: PreTokenizer,
    private val model: Model,
    private val postProcessor: PostProcessor,
) {
    /** The tokens of a text or pair; neither truncated nor padded. */
    @JvmOverloads
    fun encode(text: String, pair: String? = null): Encoding =
        postProcessor.encoding(entries(text), pair?.let(::entries))

    private fun entries(text: String): List<Entry> {
        val pieces = before.split(Aligned.of(text)).flatMap { piece ->
            if (piece.token != null) listOf(piece) else after.split(normalizer.apply(piece.text))
        }.flatMap { piece ->
            if (piece.token != null) listOf(piece) else preTokenizer.apply(piece.text).map { Piece(it) }
        }
        return pieces.flatMapIndexed { word, piece -> tokens(piece).map { entry(it, piece.text, word) } }
    }

    private fun tokens(piece: Piece): List<Token> =
        if (piece.token == null) model.tokens(piece.text) else listOf(Token(piece.token, 0, piece.text.size))

    private fun entry(token: Token, text: Aligned, word: Int): Entry {
        val part = text.codes.slice(token.start until token.end)
        return Entry(
            token.id,
            text.starts[token.start],
            text.ends[token.end - 1],
            word,
            spacesBefore = part.takeWhile(::isSpaceCharacter).size,
            spacesAfter = part.takeLastWhile(::isSpaceCharacter).size,
        )
    }

    companion object {
        /**
         * Reads a tokenizer.json.
         *
         * @throws ArtifactError it isn't one, or has a part that this version doesn't know.
         */
        @JvmStatic
        fun read(file: File): Tokenizer = try {
            val fields = Place(Json.parse(strictUtf8(ByteBuffer.wrap(file.readBytes()))), "").table()
            val normalizer = fields.present("normalizer")?.let(::normalizer) ?: Normalizer { it }
            val (before, after) = AddedTokens.read(fields.getValue("added_tokens"), normalizer)
            Tokenizer(
                before,
                after,
                normalizer,
                fields.present("pre_tokenizer")?.let(::preTokenizer) ?: PreTokenizer { listOf(it) },
                model(fields.getValue("model")),
                fields.present("post_processor")?.let(::postProcessor) ?: PostProcessor(),
            )
        } catch (error: FormatError) {
            throw ArtifactError("$file: not a usable tokenizer: ${error.message}; $AGAIN", error)
        } catch (error: NoSuchElementException) {
            throw ArtifactError("$file: not a usable tokenizer: ${error.message}; $AGAIN", error)
        }
    }
}
