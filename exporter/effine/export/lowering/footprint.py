"""What a captured graph keeps in memory when it runs, counted before it is lowered."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from effine.export.lowering.graph import Node, aten

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
        activations: bytes of the results that are alive at the same time, at most.
        weights: what the runtime packs.
    """

    activations: int
    weights: frozenset[Weight]


def footprint(graph: fx.GraphModule) -> Footprint:
    """Count over a graph that the passes have rewritten."""
    return Footprint(_activations(graph.graph), frozenset(_weights(graph)))


def _activations(graph: fx.Graph) -> int:
    """Each result lives from the call that makes it to the last one that reads it."""
    last_read: dict[Node, Node] = {}
    for node in graph.nodes:
        last_read.update(dict.fromkeys(node.all_input_nodes, node))
    ends: dict[Node, list[Node]] = defaultdict(list)
    for node, reader in last_read.items():
        ends[reader].append(node)
    alive = most = 0
    for node in graph.nodes:
        alive += _size(node)
        most = max(most, alive)
        alive -= sum(_size(done) for done in ends[node])
    return most


def _size(node: Node) -> int:
    value: Any = node.meta.get("val") if node.op == "call_function" else None
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def _weights(graph: fx.GraphModule) -> list[Weight]:
    return [
        Weight(node.args[1].target, node.target is aten.mm.default, value.numel())
        for node in graph.graph.nodes
        if node.target in _PRODUCTS and node.args[1].op == "get_attr"
        for value in [getattr(graph, node.args[1].target)]
    ]
