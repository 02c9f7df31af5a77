"""Alternating measurements, and how widely they spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

from effine.export.bench.rivals.case import Turn

_PAUSE = 0.005


def alternate(turns: Mapping[str, Turn], steps: int, warmup: int) -> dict[str, list[float]]:
    """Run the turns one after the other, again and again; seconds of each, by name.

    A short pause before each lets the other's worker threads stop spinning.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for index in range(warmup + steps):
        for name, turn in turns.items():
            time.sleep(_PAUSE)
            taken = turn()
            if index >= warmup:
                times[name].append(taken)
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    lower, upper = np.quantile(values, (0.25, 0.75))
    return {
        "median": statistics.median(values),
        "lower": float(lower),
        "upper": float(upper),
        "min": min(values),
        "max": max(values),
    }


def ratio(own: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The ratio of medians, and the spread of the ratios of each round."""
    rounds = [a / b for a, b in zip(own, theirs, strict=True)]
    return {"of_medians": statistics.median(own) / statistics.median(theirs), **spread(rounds)}


def milliseconds(seconds: Sequence[float]) -> list[float]:
    """Seconds as milliseconds."""
    return [1e3 * value for value in seconds]
