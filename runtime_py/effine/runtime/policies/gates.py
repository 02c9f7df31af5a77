"""Token gates: how many tokens each layer keeps, set or learned. After 2102.09727 and 2001.08950.

A rung of the ladder says which share of a program's tokens stays in each layer that has a gate,
from the lowest on. `keep` lists rungs: a number is the mean over the layers, with counts that
fall by the same factor from layer to layer; `0.9:0.7:0.6` gives each layer its own. A layer
keeps `floor(share * S + 0.5)` of the S tokens of the program's shape, padding included, but never
fewer than two: the first one and another.

The gates of a layer, one for each rank, are learned in the phase `gates`. At its end a layer needs
as many tokens as it has gates of at least a half, or, where a tenth of them or more is undecided
(between 0.1 and 0.9), the whole part of their sum; at least one, or two for pairs, and never more
than the layer below. The smallest rung that keeps so many in all layers together follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import accumulate, repeat
from operator import add, mul
from typing import Any

import numpy as np

from effine.runtime.manifest import Manifest
from effine.runtime.policies.decision import Decision

GATES, KEEP = "gates", "keep"
PREFIX, SUFFIX = "encoder.gates.", ".values"
_FEWEST = 2
_OPEN = 0.5
_UNDECIDED = (0.1, 0.9)
_POLARISED = 0.1

Shares = tuple[float, ...]


class Gates:
    """Decides once, when the gates are learned.

    Args:
        manifest: of an artifact made by the method `gates`.
        updates: of the whole run.
    """

    def __init__(self, manifest: Manifest, updates: int) -> None:
        options = manifest.method_info.options
        self.updates = updates
        self.learning = math.ceil(float(options["learning"]) / 100.0 * updates)
        self._seq = manifest.tokens.max_length
        self._fewest = 2 if manifest.task.pair else 1
        names = [e.name for e in manifest.parameters if e.name.startswith(PREFIX)]
        self._names = sorted(names, key=layer_of)
        ladder = rungs(options["keep"], len(names)) if len(manifest.phases) > 1 and names else {}
        self._totals = {name: sum(counts(rung, self._seq)) for name, rung in ladder.items()}

    def decide(
        self,
        memory: Mapping[str, Any],
        update: int,
        phase: str,
        state: Mapping[str, np.ndarray],
    ) -> Decision | None:
        """Read off the counts when the gates are learned; see `Policy.decide`."""
        if phase != GATES or update != self.learning:
            return None
        learned = self.learned(state)
        shown = ":".join(f"{count / self._seq:.4g}" for count in learned)
        found = {"counts": learned, "keep": shown}
        reason = f"of {self._seq} tokens the layers need {', '.join(map(str, learned))}"
        if update == self.updates or not self._totals:
            return Decision(GATES, {}, f"{reason}; export them with keep={shown}", found)
        totals = sorted((total, name) for name, total in self._totals.items())
        rung = next((name for total, name in totals if total >= sum(learned)), totals[-1][1])
        return Decision(rung, {}, f"{reason} (keep={shown})", found, afresh=True)

    def way_back(self, memory: Mapping[str, Any]) -> None:
        """There is none: the parameters keep their layout."""

    def learned(self, state: Mapping[str, np.ndarray]) -> list[int]:
        """How many tokens each layer with a gate needs, from the lowest on."""
        found: list[int] = []
        for name in self._names:
            count = max(self._fewest, needed(state[name][: self._seq]))
            found.append(min([count, *found[-1:]]))
        return found


def needed(gates: np.ndarray) -> int:
    """How many tokens a layer's gates [S], one for each rank, let through."""
    low, high = _UNDECIDED
    undecided = int(((gates > low) & (gates < high)).sum())
    if undecided < _POLARISED * len(gates):
        return int((gates >= _OPEN).sum())
    return math.floor(np.add.accumulate(gates, dtype=np.float64)[-1])


def layer_of(name: str) -> int:
    """The layer, from 0 on, of a gate's values."""
    return int(name.removeprefix(PREFIX).removesuffix(SUFFIX))


def rungs(keep: str, layers: int) -> dict[str, Shares]:
    """The rungs of a ladder over so many layers: the shares of each by the name of its phase.

    Raises:
        ValueError: what is wrong with `keep`.
    """
    found: dict[str, Shares] = {}
    for part in keep.split(","):
        try:
            shares = tuple(float(share) for share in part.split(":"))
        except ValueError:
            raise ValueError(f"'{part.strip()}' is no share such as 0.5") from None
        if not all(0 < share <= 1 for share in shares):
            raise ValueError(f"{part.strip()} is not above 0 and up to 1")
        if len(shares) == 1:
            shares = falling(shares[0], layers)
        if len(shares) != layers:
            raise ValueError(f"{part.strip()} has {len(shares)} shares for {layers} layers")
        if list(shares) != sorted(shares, reverse=True):
            raise ValueError(f"{part.strip()}: a layer can't keep more than the one below it")
        name = f"{KEEP}{round(100 * sum(shares) / layers)}"
        if name in found:
            raise ValueError(f"two rungs keep {name.removeprefix(KEEP)} percent")
        found[name] = shares
    return found


def falling(mean: float, layers: int) -> Shares:
    """Shares with this mean, each the same part of the one before, found by bisection.

    Powers are products and sums are taken in order, as every host computes them.
    """
    low, high = 0.0, 1.0
    while low < (factor := (low + high) / 2) < high:
        if reduce(add, _powers(factor, layers)) < mean * layers:
            low = factor
        else:
            high = factor
    return _powers(high, layers)


def _powers(factor: float, count: int) -> Shares:
    return tuple(accumulate(repeat(factor, count), mul))


def counts(shares: Sequence[float], seq: int) -> list[int]:
    """How many of `seq` tokens stay in each layer."""
    return [count(share, seq) for share in shares]


def count(share: float, seq: int) -> int:
    """How many of `seq` tokens a share of them is."""
    return min(seq, max(_FEWEST, math.floor(share * seq + 0.5)))
