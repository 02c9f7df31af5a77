"""Examples: what one row of data says, and how rows are checked."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from effine.runtime.errors import DataError

_SHOWN = 80


@dataclass(frozen=True)
class Answer:
    """A part of a context, and the character that it starts at."""

    text: str
    start: int


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with what is to be learned from it.

    Args:
        text_b: the second text of a pair.
        label: the class, for classification.
        score: the target, for regression.
        labels: those that apply, perhaps none, for multilabel.
        words: the text as words, for token-classification.
        tags: a tag for each word.
        answers: what is right for question-answering, where text_b is the context of text.
        origin: the file and line, named in errors.
    """

    text: str
    text_b: str | None = None
    label: str | None = None
    score: float | None = None
    labels: tuple[str, ...] | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    answers: tuple[Answer, ...] | None = None
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Row:
    """A line of a file, or an item in memory: values by column, and where they are from."""

    origin: str
    values: Mapping[str, object]

    def check_columns(self, required: Iterable[str]) -> None:
        """Refuse a row without a column.

        Raises:
            DataError: one is missing.
        """
        check_columns(self.origin, self.values, required)

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            DataError: it isn't a text.
        """
        return checked_text(self.origin, column, self.values[column])


def check_columns(where: str, found: Iterable[str], required: Iterable[str]) -> None:
    """Refuse data without a column.

    Raises:
        DataError: one of `required` isn't among `found`.
    """
    names = [str(name) for name in found]
    for name in required:
        if name not in names:
            listed = ", ".join(shown(other) for other in names) or "none"
            raise DataError(f"{where}: no column '{name}' (found: {listed}); add it or rename one")


def checked_text(where: str, what: str, value: object) -> str:
    """A value that is a text.

    Raises:
        DataError: it isn't one, or can't be encoded.
    """
    if not isinstance(value, str):
        raise DataError(f"{where}: {what} is {shown(value)}, not a string; put it in quotes")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: {what} holds half a surrogate pair at character {error.start}; remove it"
        ) from error
    return str(value)


def shown(value: object) -> str:
    """A value as it can stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def fingerprint(examples: Iterable[Example]) -> str:
    """The sha256 (hex) of the examples' content and order.

    Hashed are, for each example, text, text_b, label and score: a byte 0 for what is
    absent; otherwise a byte 1 and, for strings, the number of UTF-8 bytes as uint64 and
    these bytes, for a score its float64; then, for each of labels, words and tags that the
    example has, their number as uint64 and each like the other strings; then its answers, if it
    has any, in the same way and each with its start as uint64; all little-endian.
    """
    digest = hashlib.sha256()
    for example in examples:
        for value in (example.text, example.text_b, example.label):
            digest.update(_hashed(value))
        score = example.score
        digest.update(b"\0" if score is None else struct.pack("<Bd", 1, score))
        for values in (example.labels, example.words, example.tags):
            if values is not None:
                digest.update(struct.pack("<Q", len(values)))
                for value in values:
                    digest.update(_hashed(value))
        if example.answers is not None:
            digest.update(struct.pack("<Q", len(example.answers)))
            for answer in example.answers:
                digest.update(_hashed(answer.text) + struct.pack("<Q", answer.start))
    return digest.hexdigest()


def _hashed(value: str | None) -> bytes:
    if value is None:
        return b"\0"
    encoded = value.encode()
    return struct.pack("<BQ", 1, len(encoded)) + encoded
