"""What a captured graph keeps in memory when it runs, counted before it is lowered."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from effine.export.lowering.graph import aten
from effine.export.lowering.lives import lives_in

_PRODUCTS = (aten.linear.default, aten.mm.default)


@dataclass(frozen=True)
class Weight:
    """A constant weight of a product; forward and backward passes pack copies of their own."""

    name: str
    transposed: bool
    elements: int


@dataclass(frozen=True)
class Footprint:
    """The memory of one program method.

    Args:
        activations: bytes of the results that are alive at the same time, at most, without
            the graph's outputs.
        weights: what the runtime packs.
    """

    activations: int
    weights: frozenset[Weight]


def footprint(graph: fx.GraphModule) -> Footprint:
    """Count over a graph that the passes have rewritten."""
    return Footprint(lives_in(graph.graph, outputs=False).most, frozenset(_weights(graph)))


def _weights(graph: fx.GraphModule) -> list[Weight]:
    return [
        Weight(node.args[1].target, node.target is aten.mm.default, value.numel())
        for node in graph.graph.nodes
        if node.target in _PRODUCTS and node.args[1].op == "get_attr"
        for value in [getattr(graph, node.args[1].target)]
    ]
