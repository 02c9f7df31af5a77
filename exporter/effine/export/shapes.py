"""Sequence lengths of the programs, chosen from the lengths of the data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from effine.export.errors import ExportError

STEP = 8
LIMIT = 128
WITHOUT_DATA = (64,)
_COVERAGE = 0.995
_MOST_SHAPES = 3
_WORTH = 0.15


def choose_seqs(setting: str, lengths: Sequence[int], max_positions: int) -> tuple[int, ...]:
    """Turn `--seq` into ascending sequence lengths.

    With `auto` the largest covers 99.5 % of the texts (at most 128), and a smaller one
    is added only where it saves more than 15 % of the computed tokens.

    Args:
        setting: `auto` or comma-separated lengths.
        lengths: token counts of the examples; empty without data.
        max_positions: what the backbone can take.

    Raises:
        ExportError: a length is not a number or out of range.
    """
    if setting != "auto":
        return _parse(setting, max_positions)
    if not lengths:
        return tuple(min(seq, max_positions) for seq in WITHOUT_DATA)
    counts = np.asarray(lengths)
    longest = int(np.quantile(counts, _COVERAGE, method="higher"))
    largest = min(-(-longest // STEP) * STEP, LIMIT, max_positions)
    best: tuple[int, ...] = (largest,)
    smaller = range(STEP, largest, STEP)
    for extra in range(1, _MOST_SHAPES):
        candidates = [(*chosen, largest) for chosen in combinations(smaller, extra)]
        if not candidates:
            break
        better = min(candidates, key=lambda seqs: _computed_tokens(counts, seqs))
        if _computed_tokens(counts, better) > (1 - _WORTH) * _computed_tokens(counts, best):
            break
        best = better
    return best


def _computed_tokens(counts: np.ndarray, seqs: Sequence[int]) -> float:
    places = np.minimum(np.searchsorted(seqs, counts), len(seqs) - 1)
    return float(np.asarray(seqs)[places].sum())


def _parse(setting: str, max_positions: int) -> tuple[int, ...]:
    try:
        seqs = sorted({int(part) for part in setting.split(",")})
    except ValueError as error:
        raise ExportError(f"--seq {setting}: expected 'auto' or lengths such as 16,64") from error
    if seqs[0] < 4 or seqs[-1] > max_positions:
        raise ExportError(f"--seq {setting}: lengths must be from 4 to {max_positions}")
    return tuple(seqs)
