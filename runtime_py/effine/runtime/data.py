"""Examples from CSV, TSV and JSONL files or from memory, checked before anything trains on them.

Columns are `text`, `text_b` for pairs, and `label` (classification), `labels` (multilabel) or
`score` (regression); others are ignored. `labels` is a list of strings; in CSV and TSV they are
one string with `|` between them, `billing|urgent`, and an empty string where no label applies.
Files are UTF-8, with or without a byte order mark; blank lines are skipped. CSV and TSV have a
header line and quote fields by the same rules.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

import numpy as np

from effine.runtime.errors import DataError, EffineError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSONL = ".jsonl"
_TARGETS = {"classification": "label", "multilabel": "labels", "regression": "score"}
_BETWEEN_LABELS = "|"
_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST_SCORE = float(np.finfo(np.float32).max)
_SHOWN = 80


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with what is to be learned from it.

    Args:
        text_b: the second text of a pair.
        label: the class, for classification.
        labels: those that apply, perhaps none, for multilabel.
        score: the target, for regression.
        origin: the file and line, named in errors.
    """

    text: str
    text_b: str | None = None
    label: str | None = None
    score: float | None = None
    labels: tuple[str, ...] | None = None
    origin: str = field(default="", compare=False)


Source = str | Path | Sequence[Example | Mapping[str, object] | str]
_Row = tuple[str, Mapping[str, object]]


def as_examples(source: Source, task: str, labelled: bool = True) -> list[Example]:
    """Read a file, or check examples in memory.

    Args:
        source: a path, or a sequence of mappings with the columns of a file, of
            examples, or (unlabelled only) of texts.
        task: `classification`, `multilabel` or `regression`.
        labelled: False ignores labels and scores.

    Raises:
        DataError: the data can't be used; the message names the line or index.
    """
    if isinstance(source, str | Path):
        return load_examples(source, task, labelled)
    rows = (_memory_row(item, index, labelled) for index, item in enumerate(source))
    return _checked(rows, task, labelled, "the data")


def load_examples(path: str | Path, task: str, labelled: bool = True) -> list[Example]:
    """Read a CSV, TSV or JSONL file, chosen by its suffix; see `as_examples`.

    Raises:
        DataError: the file can't be used; the message names the line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_file() and suffix not in (*_DELIMITERS, _JSONL):
        raise DataError(f"{path}: unknown format '{suffix}'; use .csv, .tsv or .jsonl")
    content = _read(path)
    if suffix == _JSONL:
        rows = _json_rows(path, content)
    else:
        required = ("text", _target(task)) if labelled else ("text",)
        rows = _csv_rows(path, content, _DELIMITERS[suffix], required)
    return _checked(rows, task, labelled, str(path))


def read_labels(path: str | Path) -> list[str]:
    """Read the labels of a file with one label a line, in its order.

    Raises:
        DataError: a line is blank or repeated, or the file can't be read.
    """
    lines = _read(Path(path)).removesuffix("\n").split("\n")
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        label = line.removesuffix("\r")
        where = f"{path}, line {number}"
        if not label.strip():
            raise DataError(f"{where}: the line is blank; remove it or write a label there")
        if label in first:
            raise DataError(
                f"{where}: label {shown(label)} is on line {first[label]} already; remove one"
            )
        first[label] = number
    return list(first)


def fingerprint(examples: Iterable[Example]) -> str:
    """The sha256 (hex) of the examples' content and order.

    Hashed are, for each example, text, text_b, label and score: a byte 0 for what is
    absent; otherwise a byte 1 and, for strings, the number of UTF-8 bytes as uint64 and
    these bytes, for a score its float64; then, where an example has a list of labels,
    their number as uint64 and each like the other strings; all little-endian.
    """
    digest = hashlib.sha256()
    for example in examples:
        for value in (example.text, example.text_b, example.label):
            digest.update(_hashed(value))
        score = example.score
        digest.update(b"\0" if score is None else struct.pack("<Bd", 1, score))
        if example.labels is not None:
            digest.update(struct.pack("<Q", len(example.labels)))
            for label in example.labels:
                digest.update(_hashed(label))
    return digest.hexdigest()


def _hashed(value: str | None) -> bytes:
    if value is None:
        return b"\0"
    encoded = value.encode()
    return struct.pack("<BQ", 1, len(encoded)) + encoded


def _read(path: Path) -> str:
    """The text of a file; it isn't empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory; give a file") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the file") from error
    body = content.removeprefix(_BOM)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        offset = error.start + len(content) - len(body)
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte {offset}); save it as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty; write at least one line")
    return text


def _json_rows(path: Path, content: str) -> Iterator[_Row]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "value too large"
            raise DataError(
                f"{where}: malformed JSON ({reason}); write one object a line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f'{where}: not a JSON object; write one object a line, like {{"text": "..."}}'
            )
        yield where, row


def _csv_rows(path: Path, content: str, delimiter: str, required: Sequence[str]) -> Iterator[_Row]:
    header: list[str] | None = None
    for number, fields in _csv_records(path, content, delimiter):
        where = f"{path}, line {number}"
        if header is None:
            header = fields
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise DataError(f"{where}: two columns {shown(repeated[0])}; rename one")
            _check_columns(where, header, required)
        elif len(fields) != len(header):
            name = "tab" if delimiter == "\t" else "comma"
            raise DataError(
                f"{where}: {len(fields)} fields where the header has {len(header)}; "
                f"quote texts that hold a {name}"
            )
        else:
            yield where, dict(zip(header, fields, strict=True))


def _csv_records(path: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records that aren't blank, with the number of the line they start on."""
    limit = csv.field_size_limit()
    csv.field_size_limit(max(limit, len(content)))
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        if str(error) == "unexpected end of data":
            problem = "a quote is opened and never closed; close it"
        else:
            problem = f"malformed quoting ({error}); put the whole field in quotes"
        raise DataError(f"{path}, line {start}: {problem}, and double the quotes inside") from error
    finally:
        csv.field_size_limit(limit)


def _memory_row(item: object, index: int, labelled: bool) -> _Row:
    where = f"data[{index}]"
    if isinstance(item, Mapping):
        return where, item
    if isinstance(item, Example):
        given = {name: getattr(item, name) for name in ("text", "text_b", *_TARGETS.values())}
        row = {name: value for name, value in given.items() if value is not None}
        return item.origin or where, row
    if isinstance(item, str) and not labelled:
        return where, {"text": item}
    raise DataError(
        f"{where}: a {type(item).__name__} where a mapping is needed; "
        'give {"text": ...} with its label or score'
    )


def _checked(rows: Iterable[_Row], task: str, labelled: bool, source: str) -> list[Example]:
    examples = [_example(where, row, task, labelled) for where, row in rows]
    if not examples:
        raise DataError(f"{source}: holds no examples; add at least one")
    for example in examples:
        if (example.text_b is None) != (examples[0].text_b is None):
            raise DataError(
                f"{example.origin}: {'no' if example.text_b is None else 'a'} text_b, unlike "
                f"the examples before; give it for every example or for none"
            )
    return examples


def _example(where: str, row: Mapping[str, object], task: str, labelled: bool) -> Example:
    target = _target(task)
    _check_columns(where, row, ("text", target) if labelled else ("text",))
    text_b = row.get("text_b")
    value = row[target] if labelled else None
    return Example(
        _text(where, "text", row["text"]),
        _text(where, "text_b", text_b) if text_b not in (None, "") else None,
        _label(where, value) if labelled and target == "label" else None,
        _score(where, value) if labelled and target == "score" else None,
        _labels(where, value) if labelled and target == "labels" else None,
        where,
    )


def _target(task: str) -> str:
    if task not in _TARGETS:
        raise EffineError(f"task '{task}' is unknown; use one of {', '.join(_TARGETS)}")
    return _TARGETS[task]


def _check_columns(where: str, found: Iterable[str], required: Sequence[str]) -> None:
    names = [str(name) for name in found]
    for name in required:
        if name not in names:
            listed = ", ".join(shown(other) for other in names) or "none"
            raise DataError(f"{where}: no column '{name}' (found: {listed}); add it or rename one")


def _text(where: str, column: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {column} is {shown(value)}, not a string; put it in quotes")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: {column} holds half a surrogate pair at character {error.start}; remove it"
        ) from error
    return str(value)


def _label(where: str, value: object) -> str:
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    if absent or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: the label is empty; fill it in or remove the line")
    if isinstance(value, Real) and not isinstance(value, bool):
        return str(value)
    return _text(where, "label", value)


def _labels(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        parts = value.split(_BETWEEN_LABELS) if value.strip() else []
        value = [part.strip() for part in parts]
    if not isinstance(value, list | tuple):
        raise DataError(
            f'{where}: labels is {shown(value)}, not a list; write ["a", "b"], or [] for none'
        )
    labels = tuple(_label(where, label) for label in value)
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise DataError(f"{where}: label {shown(repeated)} is given twice; remove one")
    return labels


def _score(where: str, value: object) -> float:
    score = math.nan
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        score = float(value)
    elif isinstance(value, Real) and not isinstance(value, bool):
        try:
            score = float(value)
        except OverflowError:
            score = math.inf
    if not abs(score) <= _LARGEST_SCORE:
        raise DataError(
            f"{where}: score {shown(value)} is not a finite number; write one such as 3.5"
        )
    return score


def shown(value: object) -> str:
    """A value as it can stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
