"""Labels as numbers: positions, columns of ones, and weights against their frequencies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, shown


def labels_of(examples: Iterable[Example]) -> list[str]:
    """The distinct labels or tags, sorted by code point."""
    return sorted({label for example in examples for label in _given(example)})


def encode_labels(examples: Sequence[Example], labels: Sequence[str]) -> np.ndarray:
    """Positions of the examples' labels in `labels`, [N] int64.

    Raises:
        DataError: an example's label is not among `labels`.
    """
    encoded = np.zeros(len(examples), np.int64)
    for index, position in _positions(examples, labels):
        encoded[index] = position
    return encoded


def encode_label_sets(
    examples: Sequence[Example], labels: Sequence[str], rows: int | None = None
) -> np.ndarray:
    """A 1 for each label of each example, [N, C] float32.

    Args:
        rows: C, by default the number of `labels`; columns beyond them are 0.

    Raises:
        DataError: an example's label is not among `labels`.
    """
    encoded = np.zeros((len(examples), len(labels) if rows is None else rows), np.float32)
    for index, position in _positions(examples, labels):
        encoded[index, position] = 1.0
    return encoded


def encode_tags(examples: Sequence[Example], labels: Sequence[str]) -> list[np.ndarray]:
    """Positions of each example's tags in `labels`, [W] int64 each.

    Raises:
        DataError: a tag is not among `labels`.
    """
    encoded: list[list[int]] = [[] for _ in examples]
    for index, position in _positions(examples, labels):
        encoded[index].append(position)
    return [np.array(positions, np.int64) for positions in encoded]


def batch_labels(
    labels: np.ndarray, indices: Sequence[int] | np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """The labels of some samples, those of tokens cut to a program's length: [n, *shape]."""
    cut: np.ndarray = labels[indices][(slice(None), *(slice(size) for size in shape))]
    return cut


def balanced_weights(labels: np.ndarray, n: int) -> np.ndarray:
    """Example weights that count rare labels more; their mean is 1.

    An example weighs as much as the inverse frequency of its label, so that all classes
    that occur have the same total; with several labels, the mean of theirs. Examples
    without any are a class of their own.

    Args:
        labels: [N] int64 positions, or [N, at least n] float32 with ones; N at least 1.
        n: the number of labels.

    Returns:
        [N] float32.
    """
    applying = np.eye(n)[labels] if labels.ndim == 1 else labels[:, :n]
    classes = np.column_stack([applying, applying.sum(axis=1) == 0]).astype(np.float64)
    frequencies = np.maximum(classes.sum(axis=0), 1.0)
    weights: np.ndarray = classes @ (1.0 / frequencies) / classes.sum(axis=1)
    return (weights / weights.mean()).astype(np.float32)


def _positions(examples: Sequence[Example], labels: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index and label position of each label of each example."""
    positions = {label: position for position, label in enumerate(labels)}
    for index, example in enumerate(examples):
        for label in _given(example):
            if label not in positions:
                raise DataError(
                    f"{example.origin or f'data[{index}]'}: unknown label {shown(label)}; add it "
                    f"with --spare-labels at export and add_label, or export again with this data"
                )
            yield index, positions[label]


def _given(example: Example) -> tuple[str, ...]:
    single = () if example.label is None else (example.label,)
    return single + (example.labels or ()) + (example.tags or ())
