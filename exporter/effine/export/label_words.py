"""Heads that start from what a language model says of the labels' words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from effine.export.backbones import Backbone
from effine.export.errors import ExportError


def word_rows(backbone: Backbone, labels: Sequence[str], file: Path | None) -> Tensor:
    """Rows [C, d] of the language model's head for the first token of each label's word.

    Labels whose words begin alike start alike.

    Args:
        backbone: with a decoder.
        file: JSON that maps labels to words; other labels are words themselves.

    Raises:
        ExportError: the file can't be used, or a word has no token.
    """
    words = _read(file, labels) if file else {}
    firsts = []
    for label in labels:
        word = words.get(label, label)
        ids = backbone.tokenizer.encode(word, add_special_tokens=False).ids
        if not ids:
            raise ExportError(
                f"--label-words: '{word}' of label '{label}' is no text; give another word"
            )
        firsts.append(ids[0])
    rows: Tensor = backbone.encoder.decoder.rows(firsts)
    return rows


def _read(file: Path, labels: Sequence[str]) -> dict[str, str]:
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{file}: can't be read as JSON: {error}") from error
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise ExportError(f'{file}: must map labels to words, as in {{"pos": "positive"}}')
    unknown = [label for label in words if label not in labels]
    if unknown:
        raise ExportError(f"{file}: '{unknown[0]}' is not a label; known: {', '.join(labels)}")
    return words
