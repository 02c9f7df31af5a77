"""What the tasks' metrics are made of, in numpy alone: a phone's host computes the same."""

from __future__ import annotations

import numpy as np


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of right predictions; both [N]."""
    return float((predicted == labels).mean())


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean F1 over the classes that occur in labels or predictions; both [N]."""
    scores = []
    for name in np.union1d(predicted, labels):
        right = np.count_nonzero((predicted == name) & (labels == name))
        named = np.count_nonzero(predicted == name) + np.count_nonzero(labels == name)
        scores.append(2 * right / named)
    return float(np.mean(scores))


def label_f1(predicted: np.ndarray, applying: np.ndarray) -> dict[str, float]:
    """F1 over all decisions, and the mean of the labels' F1; both arrays [N, C] of bool.

    A label that neither applies nor is predicted anywhere counts as 0.
    """
    right = np.count_nonzero(predicted & applying, axis=0)
    named = np.count_nonzero(predicted, axis=0) + np.count_nonzero(applying, axis=0)
    return {
        "micro_f1": float(2 * right.sum() / max(1, named.sum())),
        "macro_f1": float(np.mean(2 * right / np.maximum(1, named))),
    }


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """The linear correlation of two [N]; 0 if either is constant."""
    if (a == a[0]).all() or (b == b[0]).all():
        return 0.0
    x, y = _direction(a), _direction(b)
    return float(np.clip(x @ y, -1.0, 1.0))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation of two [N], ties sharing their mean rank; 0 if either is constant."""
    return pearson(_ranks(a), _ranks(b))


def _direction(values: np.ndarray) -> np.ndarray:
    """Deviations from the mean, of norm 1; scaled first so that their squares don't vanish."""
    deviations = values.astype(np.float64) - values.mean(dtype=np.float64)
    deviations /= np.abs(deviations).max()
    normed: np.ndarray = deviations / np.linalg.norm(deviations)
    return normed


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return ranks
