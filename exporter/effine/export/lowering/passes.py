"""Graph passes: rewrite a captured ATen graph into a form that XNNPACK takes whole.

Each pass is a function of a graph module. They rely on `meta["val"]` for shapes and
set it on every node that they create.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from effine.export.lowering.graph import Node, aten, call, calls, constant, replace

_COPIES = {
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten.lift_fresh_copy.default,
}
_ARANGE = {aten.arange.default, aten.arange.start, aten.arange.start_step}
_RESHAPES = {
    aten.view_copy.default,
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.flatten.using_ints,
}
_PERMUTES = {aten.permute.default, aten.t.default}
_BROADCASTING = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor}


def run_passes(graph: fx.GraphModule, sums_as_products: bool = True) -> None:
    """Apply all passes in place; a target that is fast at sums leaves out `sums_to_products`."""
    for rewrite in (
        merge_common_subexpressions,
        fold_positions,
        drop_copies,
        copy_permutes,
        copy_expands,
        merge_common_subexpressions,
        canonicalise_reshapes,
        fold_permutes,
        broadcast_implicitly,
        *([sums_to_products] if sums_as_products else []),
        products_to_linear,
        merge_common_subexpressions,
    ):
        rewrite(graph)
        graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def fold_positions(graph: fx.GraphModule) -> None:
    """Compute what follows from `arange` alone: positions, their distances and angles."""
    known: dict[Node, Tensor] = {}
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        sources = node.all_input_nodes
        if node.target in _ARANGE or (sources and all(source in known for source in sources)):
            args, options = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **options)
    for index, (node, value) in enumerate(known.items()):
        if all(user in known for user in node.users):
            continue
        with graph.graph.inserting_before(node):
            folded = constant(graph, f"_positions_{index}", value.contiguous())
        node.replace_all_uses_with(folded)


def drop_copies(graph: fx.GraphModule) -> None:
    """Remove copies, which change nothing in a pure function, and the strided views they fix."""
    for node in calls(graph, _COPIES):
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)


def copy_permutes(graph: fx.GraphModule) -> None:
    """Write permutes with a contiguous result, as the runtime executes them."""
    for node in calls(graph, _PERMUTES):
        replace(graph, node, aten.permute_copy.default, node.args[0], _order(node))


def copy_expands(graph: fx.GraphModule) -> None:
    """Write expands with a contiguous result, as the runtime executes them."""
    for node in calls(graph, {aten.expand.default}):
        replace(graph, node, aten.expand_copy.default, *node.args)


def canonicalise_reshapes(graph: fx.GraphModule) -> None:
    """Make every reshape one view of its first unreshaped ancestor, or nothing."""
    for node in calls(graph, _RESHAPES):
        source = node.args[0]
        while source.target in _RESHAPES:
            source = source.args[0]
        shape = list(node.meta["val"].shape)
        if shape == list(source.meta["val"].shape):
            node.replace_all_uses_with(source)
        else:
            replace(graph, node, aten.view_copy.default, source, shape)


def fold_permutes(graph: fx.GraphModule) -> None:
    """Compose a permute of a permute; drop it where nothing moves."""
    for node in calls(graph, {aten.permute_copy.default}):
        source, order = node.args[0], _order(node)
        if source.target is aten.permute_copy.default:
            order = [_order(source)[axis] for axis in order]
            source = source.args[0]
        if order == sorted(order):
            node.replace_all_uses_with(source)
        else:
            replace(graph, node, aten.permute_copy.default, source, order)


def broadcast_implicitly(graph: fx.GraphModule) -> None:
    """Leave out expands, as of a sum's gradient, before operators that expand by themselves."""
    for node in calls(graph, {aten.expand_copy.default}):
        shape = node.meta["val"].shape
        for user in list(node.users):
            others = [arg for arg in user.args if isinstance(arg, fx.Node) and arg is not node]
            whole = any(
                other.meta["val"].shape == shape and other.target is not aten.expand_copy.default
                for other in others
            )
            if user.target in _BROADCASTING and whole:
                user.replace_input_with(node, node.args[0])


def sums_to_products(graph: fx.GraphModule) -> None:
    """Write sums over the rows or along the last axis as products with ones.

    Where the constant isn't the weight it holds twos, and the sum is halved, which is exact:
    XNNPACK's weight cache knows constants by their content and drops one that it has packed
    as a weight, so the same values must not be an input as well.
    """
    for node in calls(graph, {aten.sum.dim_IntList}):
        x, axes = node.args[0], node.args[1]
        shape = x.meta["val"].shape
        if x.meta["val"].dtype != torch.float32 or len(axes) != 1 or len(shape) < 2:
            continue
        axis = axes[0] % len(shape)
        with graph.graph.inserting_before(node):
            if axis == len(shape) - 1:
                summed = call(graph, aten.linear.default, x, _row(graph, 1.0, shape[-1]))
            elif axis == 0 and len(shape) == 2:
                doubled = call(graph, aten.mm.default, _row(graph, 2.0, shape[0]), x)
                summed = call(graph, aten.mul.Tensor, doubled, 0.5)
            else:
                continue
            if summed.meta["val"].shape != node.meta["val"].shape:
                summed = call(graph, aten.view_copy.default, summed, list(node.meta["val"].shape))
        node.replace_all_uses_with(summed)


def products_to_linear(graph: fx.GraphModule) -> None:
    """Write products with a transposed matrix as linear, so that each weight is stored once.

    A computed or trained bias is added afterwards: XNNPACK packs the bias together with
    a constant weight when the program is loaded, and crashes if it isn't constant too.
    """
    for node in calls(graph, {aten.mm.default, aten.addmm.default}):
        bias, x, weight = (None, *node.args) if node.target is aten.mm.default else node.args
        transposed = weight.target is aten.permute_copy.default
        matrix = weight.args[0] if transposed else weight
        if transposed and (bias is None or bias.op == matrix.op):
            replace(graph, node, aten.linear.default, x, matrix, bias)
        elif bias is not None:
            product_of = aten.linear.default if transposed else aten.mm.default
            with graph.graph.inserting_before(node):
                product = call(graph, product_of, x, matrix)
            replace(graph, node, aten.add.Tensor, product, bias)


def pack_with_bias(graph: fx.GraphModule) -> None:
    """Give products with a constant matrix a bias of zeros where they have none.

    A backward pass multiplies with the same matrix untransposed, which XNNPACK packs in
    another way. Its weight cache knows what it has packed by the content of weight and bias
    alone: without a bias it would take one for the other's successor, and free it in use.
    """
    for node in calls(graph, {aten.linear.default}):
        x, matrix, *bias = node.args
        if matrix.op == "get_attr" and not any(bias):
            with graph.graph.inserting_before(node):
                rows = matrix.meta["val"].shape[0]
                node.args = (x, matrix, constant(graph, f"_zeros_{rows}", torch.zeros(rows)))


def merge_common_subexpressions(graph: fx.GraphModule) -> None:
    """Compute equal expressions once."""
    seen: dict[Any, Node] = {}
    for node in list(graph.graph.nodes):
        if node.op not in ("call_function", "get_attr"):
            continue
        key = (node.op, node.target, _freeze(node.args), _freeze(node.kwargs))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.graph.erase_node(node)


def _order(node: Node) -> list[int]:
    rank = len(node.meta["val"].shape)
    return [1, 0] if node.target is aten.t.default else [axis % rank for axis in node.args[1]]


def _row(graph: fx.GraphModule, value: float, size: int) -> Node:
    return constant(graph, f"_row_{int(value)}_{size}", torch.full((1, size), value))


def _freeze(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((key, _freeze(item)) for key, item in value.items()))
    if isinstance(value, Tensor):
        return id(value)
    return (type(value).__name__, value)
