"""FAR: after priming, only the feed-forward nodes that moved most learn on. 2205.01541."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.layers import FeedForward
from effine.export.methods import Options, RowSets, method, option
from effine.export.methods.full import WholeLayers, train
from effine.runtime.phases import Rows, Transition
from effine.runtime.policies.far import FAR, LEARNERS, OTHERS, PRIME


class _Bias(nn.Module):
    """Holds the bias of the layer's second product, which both parts share."""

    def __init__(self, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.bias = bias


class Regrouped(nn.Module):
    """A feed-forward layer in two, by hidden nodes: learners, and others that are frozen.

    Args:
        whole: the layer; `restore` gives it back with the parts' values.
        learners, others: its nodes, each in one of the two.
    """

    def __init__(self, whole: FeedForward, learners: Tensor, others: Tensor) -> None:
        super().__init__()
        self.kept = (whole, {LEARNERS: learners, OTHERS: others})
        self.learners = _part(whole, learners) if len(learners) else None
        self.others = _part(whole, others)
        self.down = _Bias(whole.down.bias)
        train(self.others, False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, d] to [N, d]."""
        y = self.others(x)
        if self.learners is not None:
            y = self.learners(x) + y
        return y if self.down.bias is None else y + self.down.bias

    @torch.no_grad()
    def restore(self) -> FeedForward:
        """The whole layer with the parts' values."""
        whole, rows = self.kept
        for name, indices in rows.items():
            part = getattr(self, name)
            for key, axis in _nodes(whole) if part is not None else ():
                whole.get_parameter(key).index_copy_(axis, indices, part.get_parameter(key))
        return whole


def _part(whole: FeedForward, rows: Tensor) -> FeedForward:
    """Some nodes of a layer, without the bias of the second product."""
    part: Any = copy.deepcopy(whole)
    part.down.bias = None
    for key, axis in _nodes(whole):
        owner, _, leaf = key.rpartition(".")
        values = whole.get_parameter(key).detach().index_select(axis, rows)
        setattr(part.get_submodule(owner), leaf, nn.Parameter(values))
    made: FeedForward = part
    return made


def _nodes(layer: FeedForward) -> Iterator[tuple[str, int]]:
    """The parameters that have a row or column for each node, and which axis that is."""
    for key, _ in layer.named_parameters():
        if key != "down.bias":
            yield key, int(key == "down.weight")


@dataclass(frozen=True)
class FarOptions(Options):
    """Settings of FAR; retention and priming are the paper's."""

    retention: float = option(10.0, "percent of each layer's nodes that go on learning")
    selection: str = option(
        "learned",
        "which: those that moved most, random ones, or none (all feed-forward layers freeze)",
        ("learned", "random", "none"),
    )
    priming: float = option(1.0, "percent of the updates in which all nodes train")
    least_updates: int = option(10, "updates of the priming, at the least")


@method
class Far(WholeLayers):
    """Phases `prime` and `far`; which nodes are learners is data, one program serves any."""

    name = "far"
    summary = "full tuning in which most feed-forward nodes freeze after a short priming"
    Options = FarOptions
    adds_up = "changes"

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        super().__init__(options, first_layer)
        if not 0 < options.retention < 100:
            raise ExportError("--method-option retention: must be between 0 and 100")
        if not 0 <= options.priming < 100 or options.least_updates < 1:
            raise ExportError("--method-option priming, least_updates: nothing would be primed")

    def phases(self, encoder: Encoder) -> tuple[str, ...]:
        """All nodes train, then the learners."""
        return (PRIME, FAR)

    def enter(self, encoder: Encoder, phase: str, rows: RowSets | None = None) -> None:
        """Regroup the feed-forward layers, or put them back together."""
        chosen = rows or self.any_rows(encoder)
        for name, block in self._layers(encoder).items():
            layer: Any = block.feed_forward
            if isinstance(layer, Regrouped):
                block.feed_forward = layer.restore()
            if phase == FAR:
                learners = chosen.get(f"{name}.{LEARNERS}", np.empty(0, np.int64))
                parts = map(torch.from_numpy, (learners, chosen[f"{name}.{OTHERS}"]))
                block.feed_forward = Regrouped(block.feed_forward, *parts)

    def any_rows(self, encoder: Encoder) -> RowSets:
        """A random choice for each layer."""
        random = np.random.default_rng(0)
        rows = {}
        for name, block in self._layers(encoder).items():
            order = random.permutation(_width(block.feed_forward))
            count = self._count(len(order))
            rows[f"{name}.{OTHERS}"] = np.sort(order[count:])
            if count:
                rows[f"{name}.{LEARNERS}"] = np.sort(order[:count])
        return rows

    def transitions(self, encoder: Encoder) -> tuple[Transition, ...]:
        """Gather the nodes of both parts, and scatter them back."""
        gather = []
        for name, block in self._layers(encoder).items():
            layer: Any = block.feed_forward
            whole = layer.kept[0] if isinstance(layer, Regrouped) else layer
            learning = [LEARNERS] if self._count(_width(layer)) else []
            place = f"encoder.{name}.feed_forward"
            gather += [
                Rows(f"{place}.{key}", f"{place}.{kind}.{key}", f"{name}.{kind}", axis)
                for kind in (*learning, OTHERS)
                for key, axis in _nodes(whole)
            ]
        scatter = (Rows(row.target, row.source, row.indices, row.axis) for row in gather)
        return (
            Transition((PRIME,), FAR, ("moment", "statistic"), gather=tuple(gather)),
            Transition((FAR,), PRIME, ("moment", "statistic"), scatter=tuple(scatter)),
        )

    def watches(self, parameter: str) -> str | None:
        """The layer of a parameter that has nodes."""
        if ".feed_forward." not in parameter or parameter.endswith(".down.bias"):
            return None
        if any(f".feed_forward.{kind}." in parameter for kind in (LEARNERS, OTHERS)):
            return None
        return "layers." + parameter.split(".")[2]

    def _layers(self, encoder: Encoder) -> dict[str, Any]:
        """The blocks that train by name; those that share their weights are one."""
        blocks = list(encoder.layers)
        return {f"layers.{blocks.index(block)}": block for block in self.inside(encoder)}

    def _count(self, width: int) -> int:
        """How many of a layer's nodes are learners."""
        if self.options.selection == "none":
            return 0
        return min(width - 1, math.ceil(width * self.options.retention / 100.0))


def _width(layer: Any) -> int:
    whole = layer.kept[0] if isinstance(layer, Regrouped) else layer
    return int(whole.up.out_features)
