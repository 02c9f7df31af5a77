"""FAR: which nodes of the feed-forward layers go on learning. Vucetic et al., 2205.01541.

After a short priming, in which the whole network trains, the nodes of each layer that moved most
are its learners; the others freeze where priming left them. A node's score is the sum of absolute
changes of its weights and bias, in binary64, a tensor's entries in index order and tensor after
tensor. Of equal scores the lower index counts more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from effine.runtime.manifest import Manifest
from effine.runtime.order import SplitMix64
from effine.runtime.phases import Rows, statistic_name
from effine.runtime.policies.decision import Decision

PRIME, FAR = "prime", "far"
LEARNERS, OTHERS = "learners", "others"


class Far:
    """Decides once, when the network is primed.

    Args:
        manifest: of an artifact whose transition from `prime` to `far` gathers rows named
            `LAYER.learners` and `LAYER.others`.
        updates: of the whole run.
    """

    def __init__(self, manifest: Manifest, updates: int) -> None:
        options = manifest.method_info.options
        share = float(options["priming"]) / 100.0
        self.updates = updates
        self.priming = max(int(options["least_updates"]), math.ceil(share * updates))
        self._random = options["selection"] == "random"
        shapes = {entry.name: entry.shape for entry in manifest.layout(FAR)}
        self._counts: dict[str, int] = {}
        self._tensors: dict[str, list[Rows]] = {}
        for row in manifest.transition(PRIME, FAR).gather:
            layer, _, kind = row.indices.rpartition(".")
            if kind == OTHERS:
                self._tensors.setdefault(layer, []).append(row)
            else:
                self._counts[layer] = shapes[row.target][row.axis]

    def decide(
        self,
        memory: Mapping[str, Any],
        update: int,
        phase: str,
        state: Mapping[str, np.ndarray],
    ) -> Decision | None:
        """Choose the learners after priming; see `Policy.decide`."""
        if phase != PRIME or update != self.priming or update >= self.updates:
            return None
        rows: dict[str, list[int]] = {}
        shares = {}
        for number, layer in enumerate(self._tensors):
            scores = self.scores(layer, state)
            order = np.argsort(-scores, kind="stable").tolist()
            if self._random:
                SplitMix64(number).shuffle(order)
            count = self._counts.get(layer, 0)
            rows[f"{layer}.{LEARNERS}"] = sorted(order[:count])
            rows[f"{layer}.{OTHERS}"] = sorted(order[count:])
            shares[layer] = float(scores[order[:count]].sum() / max(scores.sum(), 1e-300))
        learners = sum(self._counts.values())
        reason = f"primed: {learners} nodes of {len(shares)} layers go on learning"
        found = {"share_of_movement": shares}
        return Decision(FAR, {"rows": rows}, reason, found, _arrays(rows))

    def way_back(self, memory: Mapping[str, Any]) -> Mapping[str, np.ndarray] | None:
        """The rows that were chosen, to be put back where they were."""
        return _arrays(memory["rows"]) if memory else None

    def scores(self, layer: str, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """How far each node of a layer has moved, [nodes] in binary64."""
        total: Any = 0.0
        for row in self._tensors[layer]:
            moved = np.moveaxis(np.abs(state[statistic_name(row.source)]), row.axis, 0)
            moved = moved.reshape(len(moved), -1)
            total = total + np.add.accumulate(moved, axis=1, dtype=np.float64)[:, -1]
        return np.asarray(total)


def _arrays(rows: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    return {name: np.array(indices, np.int64) for name, indices in rows.items()}
