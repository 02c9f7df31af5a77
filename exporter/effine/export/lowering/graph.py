"""Editing captured graphs: new nodes carry `meta["val"]`, from which passes read shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

aten: Any = torch.ops.aten

AGAIN = "again"
"""Marks, in a node's `meta`, what is computed again although its result was known once."""

Node = Any  # fx types the arguments of a node as a union of all that could be one


def calls(graph: fx.GraphModule, targets: set[Callable[..., Any]]) -> list[Node]:
    """The nodes that call one of these operators."""
    return [n for n in graph.graph.nodes if n.op == "call_function" and n.target in targets]


def replace(graph: fx.GraphModule, node: Node, target: Callable[..., Any], *args: Any) -> None:
    """Put a call in a node's place."""
    with graph.graph.inserting_before(node):
        new = call(graph, target, *args)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def call(graph: fx.GraphModule, target: Callable[..., Any], *args: Any, **options: Any) -> Node:
    """A new call at the graph's insertion point."""
    node = graph.graph.call_function(target, args, options)
    values = torch.fx.node.map_arg(args, lambda arg: arg.meta["val"])
    node.meta["val"] = target(*values, **options)
    return node


def constant(graph: fx.GraphModule, name: str, value: Tensor) -> Node:
    """A new node that reads the graph's attribute `name`, which is set if it is missing."""
    if not hasattr(graph, name):
        graph.register_buffer(name, value)
    node = graph.graph.get_attr(name)
    fake = next(n.meta["val"].fake_mode for n in graph.graph.nodes if n.op == "placeholder")
    node.meta["val"] = fake.from_tensor(value)
    return node
