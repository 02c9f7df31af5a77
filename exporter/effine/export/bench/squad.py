"""Questions in SQuAD's format of nested JSON, split by article."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from effine.export.errors import ExportError

_TEST_EVERY = 5

Rows = list[dict[str, Any]]


def split_by_article(path: Path) -> tuple[Rows, Rows]:
    """Rows to train on and to test on, every fifth article in the latter.

    Raises:
        ExportError: the file isn't in the format.
    """
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        rows = [_rows(article) for article in articles]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: not a file in SQuAD's format ({error!r})") from error
    if len(rows) < _TEST_EVERY:
        raise ExportError(f"{path}: {len(rows)} articles can't be split; at least {_TEST_EVERY}")
    parts: tuple[Rows, Rows] = ([], [])
    for index, own in enumerate(rows):
        parts[index % _TEST_EVERY == _TEST_EVERY - 1].extend(own)
    return parts


def _rows(article: dict[str, Any]) -> Rows:
    return [
        {
            "question": item["question"],
            "context": paragraph["context"],
            "answers": [
                {"text": answer["text"], "start": answer["answer_start"]}
                for answer in item["answers"]
            ],
        }
        for paragraph in article["paragraphs"]
        for item in paragraph["qas"]
    ]
