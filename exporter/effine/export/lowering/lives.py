"""How long a graph's results stay in memory when its calls run in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor, fx

from effine.export.lowering.graph import Node


@dataclass(frozen=True)
class Lives:
    """Where results are made and last read.

    Args:
        made: the place of each node in the graph.
        last: the place of its last reader, or its own.
        peak: the place where most bytes are alive.
        most: how many.
    """

    made: dict[Node, int]
    last: dict[Node, int]
    peak: int
    most: int


def lives_in(graph: fx.Graph, outputs: bool = True) -> Lives:
    """Each result lives from the call that makes it to the last one that reads it.

    Args:
        outputs: whether the graph's outputs, which live to its end, count in bytes.
    """
    left_out = set() if outputs else set(graph.output_node().all_input_nodes)
    made = {node: place for place, node in enumerate(graph.nodes)}
    last = {node: max((made[user] for user in node.users), default=made[node]) for node in made}
    change = [0] * (len(made) + 1)
    for node, place in made.items():
        if node in left_out:
            continue
        change[place] += size_of(node)
        change[last[node] + 1] -= size_of(node)
    alive = list(accumulate(change))
    most = max(alive)
    return Lives(made, last, alive.index(most), most)


def size_of(node: Node) -> int:
    """Bytes of a result; 0 for inputs and constants."""
    value: Any = node.meta.get("val") if node.op == "call_function" else None
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
