"""AutoFreeze: which layers have settled and freeze. Liu et al., 2102.01386; authors' code.

A run is divided into intervals of updates. Over an interval T the programs add up the raw
gradients of every parameter of the layers that still train; G_l(T) is the sum of the absolute
values of these sums over the parameters of layer l. At the end of an interval

    eta_l = |G_l(T-1) - G_l(T)| / G_l(T-1)

for the layers that train, and those below the first one whose eta reaches the N-th percentile
of all eta freeze. The first interval only gives G. What freezes is rounded down to the cuts
that the artifact has phases for. Sums are in binary64 in index order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effine.runtime.manifest import Manifest
from effine.runtime.policies.decision import Decision

CUT = "cut"


class AutoFreeze:
    """Decides at the end of each interval.

    Args:
        manifest: of an artifact with a phase `cutK` for each number K of frozen layers that it
            can train with, and statistics in groups that end in the number of their layer.
        updates: of the whole run.
    """

    def __init__(self, manifest: Manifest, updates: int) -> None:
        options = manifest.method_info.options
        self.updates = updates
        self.interval = max(int(options["least_updates"]), updates // int(options["intervals"]))
        self._percentile = float(options["percentile"])
        self._cuts = sorted(int(phase.removeprefix(CUT)) for phase in manifest.phases)
        self._layers = {
            entry.name: int(entry.group.rpartition(".")[2])
            for entry in manifest.state
            if entry.role == "statistic"
        }

    def decide(
        self,
        memory: Mapping[str, Any],
        update: int,
        phase: str,
        state: Mapping[str, np.ndarray],
    ) -> Decision | None:
        """Test at the end of an interval, unless the run is over; see `Policy.decide`."""
        if update % self.interval or update >= self.updates:
            return None
        start = int(phase.removeprefix(CUT))
        changes = self.changes(start, state)
        before = {int(layer): change for layer, change in memory.get("changes", {}).items()}
        remembered = {"changes": {str(layer): change for layer, change in changes.items()}}
        if not before:
            reason = "the first interval, nothing to compare with"
            return Decision(phase, remembered, reason, {"changes": list(changes.values())})
        etas = [relative(before[layer], changes[layer]) for layer in changes]
        limit = percentile(etas, self._percentile)
        settled = start + next(i for i, eta in enumerate(etas) if eta >= limit)
        cut = max(cut for cut in self._cuts if cut <= settled)
        found = {
            "changes": list(changes.values()),
            "eta": [eta if math.isfinite(eta) else None for eta in etas],
            "limit": limit if math.isfinite(limit) else None,
        }
        return Decision(f"{CUT}{cut}", remembered, _reason(start, settled, cut), found)

    def way_back(self, memory: Mapping[str, Any]) -> None:
        """There is none: the parameters keep their layout."""

    def changes(self, start: int, state: Mapping[str, np.ndarray]) -> dict[int, float]:
        """G of each layer from `start` on, tensors and entries in order."""
        sums: dict[int, float] = {}
        for name, layer in self._layers.items():
            if layer >= start:
                sums[layer] = sums.get(layer, 0.0) + magnitude(state[name])
        return dict(sorted(sums.items()))


def magnitude(array: np.ndarray) -> float:
    """The sum of absolute values, entry after entry in binary64."""
    return float(np.add.accumulate(np.abs(array.reshape(-1)), dtype=np.float64)[-1])


def relative(before: float, after: float) -> float:
    """eta; infinite for a layer that had no gradient before and has one now."""
    if before == after:
        return 0.0
    return abs(before - after) / before if before else math.inf


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile, interpolated linearly between the two nearest of the sorted values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100.0
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if place == low or ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _reason(start: int, settled: int, cut: int) -> str:
    if settled == start:
        return "the lowest layer that trains still changes most"
    layers = f"layers up to {settled} have settled"
    if cut == start:
        return f"{layers}, but there is no cut between {start} and {settled}"
    return f"{layers}, those up to {cut} freeze"
