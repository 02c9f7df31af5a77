"""Texts to token ids, and token ids to padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

from effine.runtime.errors import ArtifactError
from effine.runtime.examples import Example


@dataclass(frozen=True)
class Tokens:
    """Token ids and token types of one sample, both [L] int64, special tokens included."""

    ids: np.ndarray
    type_ids: np.ndarray


@dataclass(frozen=True)
class Encoding:
    """A text or pair in tokens, with what each token stands for.

    Args:
        ids, type_ids: as in `Tokens`.
        parts: [L], 0 or 1 for the text that a token is from, -1 for special tokens.
        offsets: [L, 2], the characters of that text that a token covers, from and up to.
    """

    ids: np.ndarray
    type_ids: np.ndarray
    parts: np.ndarray
    offsets: np.ndarray

    def select(self, kept: np.ndarray) -> Encoding:
        """The tokens at the positions that `kept` picks."""
        return Encoding(self.ids[kept], self.type_ids[kept], self.parts[kept], self.offsets[kept])

    def cut(self, max_length: int) -> Encoding:
        """At most `max_length` tokens, cut as `Tokenizer.encode` does."""
        return self.select(_kept(self.parts, max_length))


class Tokenizer:
    """A Hugging Face tokenizer without padding, with truncation that is linear in the text.

    Truncation is `longest_first` at the right end. It is done here because the library
    also builds every combination of what it cuts off from the two texts of a pair, which
    takes minutes for long ones.

    Args:
        tokenizer: it is copied; its own truncation and padding are ignored.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.truncated = 0
        """How many samples the last `encode` cut."""

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json.

        Raises:
            ArtifactError: the file is not a tokenizer that this version can read.
        """
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing more specific
            reason = " ".join(str(error).split())
            raise ArtifactError(
                f"{path}: not a readable tokenizer ({reason}); export again"
            ) from error

    def encode(self, examples: Sequence[Example], max_length: int) -> list[Tokens]:
        """Tokenize texts or pairs and cut each to `max_length` tokens; sets `truncated`.

        Args:
            max_length: at least the number of special tokens.
        """
        encoded = [self._encode(example, max_length) for example in examples]
        self.truncated = sum(cut for _, cut in encoded)
        return [tokens for tokens, _ in encoded]

    def _encode(self, example: Example, max_length: int) -> tuple[Tokens, bool]:
        encoding = self._tokenizer.encode(example.text, example.text_b)
        ids = np.array(encoding.ids, np.int64)
        type_ids = np.array(encoding.type_ids, np.int64)
        if len(ids) <= max_length:
            return Tokens(ids, type_ids), False
        kept = _kept(_parts(encoding), max_length)
        return Tokens(ids[kept], type_ids[kept]), True

    def align(self, text: str, text_b: str | None = None) -> Encoding:
        """Tokenize a text or pair as a whole, with the characters of each token."""
        encoding = self._tokenizer.encode(text, text_b)
        return Encoding(
            np.array(encoding.ids, np.int64),
            np.array(encoding.type_ids, np.int64),
            _parts(encoding),
            np.array(encoding.offsets, np.int64).reshape(-1, 2),
        )


def _parts(encoding: tokenizers.Encoding) -> np.ndarray:
    """The text that each token is from, 0 or 1; -1 for special tokens."""
    return np.array([-1 if i is None else i for i in encoding.sequence_ids], np.int64)


def _kept(parts: np.ndarray, max_length: int) -> np.ndarray:
    """Which tokens stay when at most `max_length` may, as a mask [L]."""
    first, second = parts == 0, parts == 1
    special = len(parts) - int(first.sum()) - int(second.sum())
    keep_first, keep_second = _longest_first(
        int(first.sum()), int(second.sum()), max_length - special
    )
    kept: np.ndarray = parts == -1
    kept |= first & (np.cumsum(first) <= keep_first)
    kept |= second & (np.cumsum(second) <= keep_second)
    return kept


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens to keep of each text so that they fit into `room`.

    The shorter text stays whole if it leaves the longer one as much; otherwise they
    share the room, and an odd token goes to the longer one (to the second of equals).
    """
    short, long = sorted((first, second))
    if first + second > room:
        long = max(short, room - short)
        if short + long > room:
            short = room // 2
            long = room - short
    return (long, short) if first > second else (short, long)


def pad(
    tokens: Sequence[Tokens], batch: int, seq: int, pad_id: int, inputs: Sequence[str]
) -> dict[str, np.ndarray]:
    """Arrays [batch, seq] int64 for the token inputs of a program.

    Rows beyond the given samples are padding, with a mask of 1 on their first position so
    that no softmax or mean runs over nothing.

    Args:
        tokens: at most `batch` samples of at most `seq` tokens.
        inputs: which of input_ids, token_type_ids and attention_mask to return.
    """
    arrays = {
        "input_ids": np.full((batch, seq), pad_id, np.int64),
        "token_type_ids": np.zeros((batch, seq), np.int64),
        "attention_mask": np.zeros((batch, seq), np.int64),
    }
    for row, sample in enumerate(tokens):
        length = len(sample.ids)
        arrays["input_ids"][row, :length] = sample.ids
        arrays["token_type_ids"][row, :length] = sample.type_ids
        arrays["attention_mask"][row, :length] = 1
    arrays["attention_mask"][len(tokens) :, 0] = 1
    return {name: arrays[name] for name in inputs}
