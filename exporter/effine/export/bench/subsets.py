"""Parts of a data set, drawn by a seed and stratified by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from effine.export.bench.squad import split_by_article
from effine.export.errors import ExportError
from effine.runtime.data import Source
from effine.runtime.examples import Example

HELD_OUT = 5


def parts_of(folder: Path) -> tuple[Source, Source]:
    """What to train on, and what to test on.

    That is train.jsonl, and test.jsonl or else dev.jsonl. A folder that holds one file in
    SQuAD's format instead (.json) is split by article.

    Raises:
        ExportError: a file is missing or isn't what it should be.
    """
    nested = list(folder.glob("*.json"))
    if len(nested) == 1 and not (folder / "train.jsonl").exists():
        return split_by_article(nested[0])
    found = [folder / name for name in ("test.jsonl", "dev.jsonl") if (folder / name).is_file()]
    if not (folder / "train.jsonl").is_file() or not found:
        raise ExportError(f"--data {folder}: needs train.jsonl, and test.jsonl or dev.jsonl")
    return folder / "train.jsonl", found[0]


def draw(
    examples: Sequence[Example], size: int | None, per_class: int | None, seed: int
) -> list[Example]:
    """A random part: `size` examples in the labels' proportions, or `per_class` of each.

    With `size`, every label keeps at least one example.
    """
    if size is None and per_class is None:
        return list(examples)
    groups = _by_label(examples, seed)
    if per_class is not None:
        return _pick(examples, [i for group in groups for i in group[:per_class]])
    wanted = min(size or 0, len(examples))
    shares = np.array([len(group) * wanted / len(examples) for group in groups])
    counts = np.maximum(1, np.floor(shares)).astype(int)
    for index in np.argsort(counts - shares, kind="stable")[: max(0, wanted - counts.sum())]:
        counts[index] += 1
    while counts.sum() > max(wanted, len(counts)):
        counts[np.where(counts > 1, counts - shares, -np.inf).argmax()] -= 1
    chosen = [i for group, count in zip(groups, counts, strict=True) for i in group[:count]]
    return _pick(examples, chosen)


def hold_out(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Four fifths to train on and a stratified fifth to choose by."""
    groups = _by_label(examples, seed)
    flat = [i for group in groups for i in group]
    return (
        _pick(examples, [i for place, i in enumerate(flat) if place % HELD_OUT]),
        _pick(examples, flat[::HELD_OUT]),
    )


def _by_label(examples: Sequence[Example], seed: int) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index in np.random.default_rng(seed).permutation(len(examples)).tolist():
        groups.setdefault(examples[index].label or "", []).append(index)
    return [groups[label] for label in sorted(groups)]


def _pick(examples: Sequence[Example], indices: Sequence[int]) -> list[Example]:
    return [examples[index] for index in sorted(indices)]
