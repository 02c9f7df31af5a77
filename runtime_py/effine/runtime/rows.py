"""Rows of CSV, TSV and JSONL files, with the line that each starts on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from effine.runtime.errors import DataError
from effine.runtime.examples import Row, check_columns, shown

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSONL = ".jsonl"
_BOM = b"\xef\xbb\xbf"


def file_rows(path: Path, required: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, whose suffix says what it is.

    Args:
        required: columns that the header of a CSV or TSV must have.

    Raises:
        DataError: the file can't be read; the message names the line.
    """
    suffix = path.suffix.lower()
    if path.is_file() and suffix not in (*_DELIMITERS, _JSONL):
        raise DataError(f"{path}: unknown format '{suffix}'; use .csv, .tsv or .jsonl")
    content = read_text(path)
    if suffix == _JSONL:
        return _json_rows(path, content)
    return _csv_rows(path, content, _DELIMITERS[suffix], required)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        DataError: the file can't be read, or is empty.
    """
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


def _json_rows(path: Path, content: str) -> Iterator[Row]:
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
        yield Row(where, row)


def _csv_rows(path: Path, content: str, delimiter: str, required: Sequence[str]) -> Iterator[Row]:
    header: list[str] | None = None
    for number, fields in _csv_records(path, content, delimiter):
        where = f"{path}, line {number}"
        if header is None:
            header = fields
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise DataError(f"{where}: two columns {shown(repeated[0])}; rename one")
            check_columns(where, header, required)
        elif len(fields) != len(header):
            name = "tab" if delimiter == "\t" else "comma"
            raise DataError(
                f"{where}: {len(fields)} fields where the header has {len(header)}; "
                f"quote texts that hold a {name}"
            )
        else:
            yield Row(where, dict(zip(header, fields, strict=True)))


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
