"""Quantisation of frozen weights as a pass over a captured graph.

A product with a frozen matrix becomes a product of int8 activations, quantised row by
row when the program runs, and int8 weights with a scale for each output channel. The
input gradient multiplies with the transposed matrix, which gets its own int8 copy with
its own scales. The word embeddings are looked up in int8. Trained tensors, biases,
norms and everything else stay fp32.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers quantized_decomposed

from effine.export.lowering.graph import AGAIN, Node, aten, call, constant

quantized: Any = torch.ops.quantized_decomposed
DEQUANTISE = (
    quantized.dequantize_per_channel.default,
    quantized.dequantize_per_channel_group.default,
)
INT8 = (-128, 127)
INT4 = (-8, 7)
GROUP = 32
_PRODUCTS = {aten.linear.default, aten.mm.default}
_FACTORS = [0.6 + 0.02 * step for step in range(21)]
_SUFFIXES = ("_values", "_scale", "_zero")
_LARGEST = 127


def quantise(
    graph: fx.GraphModule,
    matrices: Mapping[str, Tensor | None],
    tables: Iterable[str],
    bits: int = 8,
) -> None:
    """Quantise in place; products that read the same rounded rows come one after the other.

    The partitioner keeps what shares a rounded operand in one delegate, and cuts the graph if
    anything else has to run in between.

    Args:
        matrices: attributes of the graph that hold frozen weights [out, in], with the
            bias that takes the layer's place, or None for its own.
        tables: attributes that hold frozen embedding tables [V, d].
        bits: 8 for one scale an output channel, 4 for one every 32 inputs of a channel.
    """
    weight_of = _channels if bits == 8 else _groups
    products: dict[tuple[Node, bool], Node] = {}
    for node in list(graph.graph.nodes):
        if node.target in _PRODUCTS and node.args[1].target in matrices:
            key = node.args[0], node.meta.get(AGAIN, False)
            with graph.graph.inserting_before(products[key].next if key in products else node):
                rows = products[key].args[0] if key in products else _rows(graph, node.args[0])
                replaced = products[key] = _product(graph, node, rows, matrices, weight_of)
        elif node.target is aten.embedding.default and node.args[0].target in tables:
            with graph.graph.inserting_before(node):
                replaced = _embedding(graph, node.args[0].target, node.args[1])
        else:
            continue
        node.replace_all_uses_with(replaced)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    _drop_unread(graph)
    graph.recompile()


def _product(
    graph: fx.GraphModule,
    node: Node,
    rows: Node,
    matrices: Mapping[str, Tensor | None],
    weight_of: Callable[[fx.GraphModule, str], Node],
) -> Node:
    """The product of rounded rows with the rounded matrix of `node`, or with its transpose."""
    name = node.args[1].target
    if node.target is aten.mm.default:
        return call(graph, aten.linear.default, rows, weight_of(graph, _transpose(graph, name)))
    bias, corrected = node.args[2] if len(node.args) > 2 else None, matrices[name]
    if corrected is not None:
        bias = constant(graph, f"{name}_bias", corrected)
    elif bias is not None:
        bias = constant(graph, bias.target, getattr(graph, bias.target))
    return call(graph, aten.linear.default, rows, weight_of(graph, name), bias)


def copies_of(name: str) -> set[str]:
    """The graph attributes that replace the matrix or table `name` in forward passes."""
    return {name + suffix for suffix in (*_SUFFIXES, "_bias")}


def per_channel(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values [out, in] and fp32 scales [out] of a matrix; the zero point is 0."""
    scale = matrix.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    values = (matrix / scale.unsqueeze(1)).round().clamp(-_LARGEST, _LARGEST)
    return values.to(torch.int8), scale


def per_group(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """4-bit values [out, in] in int8 and fp32 scales [out, in / 32], exact in bfloat16.

    Of some scales below the one that covers all values, that with the least squared error.
    """
    groups = matrix.unflatten(1, (-1, GROUP))
    low, high = INT4
    covering = torch.maximum(groups.amin(dim=2) / low, groups.amax(dim=2) / high)
    covering = covering.clamp(min=torch.finfo(torch.float32).tiny)
    best = torch.full_like(covering, torch.inf)
    scale, values = covering, groups
    for factor in _FACTORS:
        tried = (covering * factor).to(torch.bfloat16).to(torch.float32)
        rounded = (groups / tried.unsqueeze(2)).round().clamp(low, high)
        error = (rounded * tried.unsqueeze(2) - groups).square().sum(dim=2)
        better = error < best
        best = torch.where(better, error, best)
        scale = torch.where(better, tried, scale)
        values = torch.where(better.unsqueeze(2), rounded, values)
    return values.flatten(1).to(torch.int8), scale


def _channels(graph: fx.GraphModule, name: str) -> Node:
    values, scale = per_channel(getattr(graph, name))
    parts = _stored(graph, name, values, scale)
    return call(graph, quantized.dequantize_per_channel.default, *parts, 0, *INT8, torch.int8)


def _groups(graph: fx.GraphModule, name: str) -> Node:
    values, scale = per_group(getattr(graph, name))
    parts = _stored(graph, name, values, scale)
    settings = (*INT4, torch.int8, GROUP, torch.float32)
    return call(graph, quantized.dequantize_per_channel_group.default, *parts, *settings)


def _stored(graph: fx.GraphModule, name: str, values: Tensor, scale: Tensor) -> list[Node]:
    zero = torch.zeros(scale.shape, dtype=torch.int64)
    return [
        constant(graph, name + suffix, tensor)
        for suffix, tensor in zip(_SUFFIXES, (values, scale, zero), strict=True)
    ]


def _rows(graph: fx.GraphModule, x: Node) -> Node:
    """Round x [N, in] as int8 does that has a scale and a zero point for each row."""
    chosen = call(graph, quantized.choose_qparams_per_token_asymmetric.default, x, torch.int8)
    scale, zero = (call(graph, operator.getitem, chosen, index) for index in (0, 1))
    settings = (scale, zero, *INT8, torch.int8)
    rounded = call(graph, quantized.quantize_per_token.default, x, *settings)
    back = (*settings, torch.float32)
    return call(graph, quantized.dequantize_per_token.default, rounded, *back)


def _transpose(graph: fx.GraphModule, name: str) -> str:
    transposed = f"{name}_transposed"
    if not hasattr(graph, transposed):
        graph.register_buffer(transposed, getattr(graph, name).t().contiguous())
    return transposed


def _embedding(graph: fx.GraphModule, name: str, ids: Node) -> Node:
    values, scale = per_channel(getattr(graph, name))
    table = constant(graph, f"{name}_values", values)
    rows = call(graph, aten.embedding.default, table, ids)
    rows = call(graph, aten._to_copy.default, rows, dtype=torch.float32)
    scales = constant(graph, f"{name}_scale", scale.unsqueeze(1))
    return call(graph, aten.mul.Tensor, rows, call(graph, aten.embedding.default, scales, ids))


def _drop_unread(graph: fx.GraphModule) -> None:
    read = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in graph.named_buffers() if name not in read]:
        delattr(graph, name)
