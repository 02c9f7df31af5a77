"""Products with frozen matrices in 8 bits, as standard ONNX operators.

The arithmetic is that of `quantise`: activations are rounded row by row when the program
runs, weights have a scale for each output channel. Both are stored unsigned, around zero
points, because some machines saturate sums of signed products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from effine.export.lowering.graph import Node, aten
from effine.export.lowering.onnx_operators import TYPES, Writer
from effine.export.lowering.quantise import per_channel

_MIDDLE = 128
_LARGEST = 255.0
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Quantised:
    """What is quantised of a graph, by the names of its attributes.

    Args:
        matrices: weights [out, in] of linear layers, with the bias [out] that takes the
            layer's place, or None for its own.
        tables: embedding tables [V, d].
    """

    matrices: Mapping[str, Tensor | None]
    tables: frozenset[str]

    def write(self, writer: Writer, graph: fx.GraphModule, node: Node) -> bool:
        """Write a product with one of the matrices or a look-up in a table; others aren't."""
        if node.target is aten.linear.default and node.args[1].target in self.matrices:
            x, weight, *bias = node.args
            written = _product(writer, x, weight.target, getattr(graph, weight.target))
            corrected = self.matrices[weight.target]
            if corrected is not None:
                written = writer.add(
                    "Add", written, writer.weight(f"{weight.target}_bias", corrected)
                )
            elif bias and bias[0] is not None:
                written = writer.add("Add", written, writer.names[bias[0]])
        elif node.target is aten.mm.default and node.args[1].target in self.matrices:
            x, weight = node.args
            matrix = getattr(graph, weight.target).t()
            written = _product(writer, x, f"{weight.target}_transposed", matrix)
        elif node.target is aten.embedding.default and node.args[0].target in self.tables:
            table, ids = node.args[:2]
            written = _look_up(writer, table.target, getattr(graph, table.target), ids)
        else:
            return False
        writer.names[node] = written
        return True


def _product(writer: Writer, x: Node, name: str, matrix: Tensor) -> str:
    """x [N, in] times a matrix [out, in], transposed, both rounded."""
    values, scale = per_channel(matrix)
    stored = (values.t().to(torch.int32) + _MIDDLE).to(torch.uint8)
    weight = writer.weight(f"{name}_values", stored)
    scales = writer.weight(f"{name}_scale", scale)
    sums = writer.weight(f"{name}_sums", values.sum(dim=1, dtype=torch.int32))
    rounded, row_scales, zeros = _rows(writer, writer.names[x])
    middle = writer.constant(torch.tensor(_MIDDLE, dtype=torch.uint8))
    product = writer.add("MatMulInteger", rounded, weight, "", middle)
    zeros = writer.add("Cast", zeros, to=TYPES[torch.int32])
    product = writer.add("Sub", product, writer.add("Mul", zeros, sums))
    product = writer.add("Cast", product, to=TYPES[torch.float32])
    return writer.add("Mul", writer.add("Mul", product, row_scales), scales)


def _rows(writer: Writer, x: str) -> tuple[str, str, str]:
    """x [N, in] in 8 bits, with the scale and the zero point [N, 1] of each row."""

    def number(value: float) -> str:
        return writer.constant(torch.tensor(value))

    last = writer.sizes([-1])
    low = writer.add("Min", writer.add("ReduceMin", x, last), number(0.0))
    high = writer.add("Max", writer.add("ReduceMax", x, last), number(0.0))
    scale = writer.add("Div", writer.add("Sub", high, low), number(_LARGEST))
    scale = writer.add("Max", scale, number(_TINY))
    zero = writer.add("Round", writer.add("Neg", writer.add("Div", low, scale)))
    rounded = writer.add("Add", writer.add("Round", writer.add("Div", x, scale)), zero)
    rounded = writer.add("Clip", rounded, number(0.0), number(_LARGEST))
    return writer.add("Cast", rounded, to=TYPES[torch.uint8]), scale, zero


def _look_up(writer: Writer, name: str, table: Tensor, ids: Node) -> str:
    values, scale = per_channel(table)
    places = writer.names[ids]
    rows = writer.add("Gather", writer.weight(f"{name}_values", values), places)
    rows = writer.add("Cast", rows, to=TYPES[torch.float32])
    scales = writer.add("Gather", writer.weight(f"{name}_scale", scale.unsqueeze(1)), places)
    return writer.add("Mul", rows, scales)
