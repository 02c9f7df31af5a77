"""ATen operators as standard ONNX operators.

Captured graphs are decomposed into few operators, nearly all of which have a counterpart.
`torch.onnx.export` takes these graphs as well, but needs seconds for each method, where
this needs a fraction of one, and loses digits in `expm1`, which bias correction needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor, fx

from effine.export.errors import ExportError
from effine.export.lowering.graph import Node, aten

TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
}
_TO_THE_END = np.iinfo(np.int64).max


class Writer:
    """A graph that is being written: its nodes, constants and shared weights.

    Args:
        names: the ONNX values of the nodes that have been written.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.names: dict[Node, str] = {}
        self.constants: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        self._known: dict[tuple[str, bytes], str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        output = f"/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: Tensor) -> str:
        """The name of a small constant."""
        key = (f"{value.dtype}{value.shape}", value.numpy().tobytes())
        name = self._known.setdefault(key, f"/constant_{len(self._known)}")
        self.constants[name] = value
        return name

    def weight(self, name: str, value: Tensor) -> str:
        """The name, which all programs share, of a frozen weight."""
        self.weights[name] = value.contiguous()
        return name

    def sizes(self, values: Sequence[int]) -> str:
        """The name of a constant shape, or of indices."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def operand(self, argument: Node | float, dtype: torch.dtype) -> str:
        """The name of an argument's value as `dtype`; numbers become constants."""
        if not isinstance(argument, fx.Node):
            return self.constant(torch.tensor(argument, dtype=dtype))
        name = self.names[argument]
        if argument.meta["val"].dtype == dtype:
            return name
        return self.add("Cast", name, to=TYPES[dtype])


Write = Callable[[Writer, Node], str]


def write(writer: Writer, node: Node) -> None:
    """Write a node of a captured graph.

    Raises:
        ExportError: its operator isn't in the table below.
    """
    found = _OPERATORS.get(node.target)
    if found is None:
        raise _unknown(node)
    writer.names[node] = found(writer, node)


def _unknown(node: Node) -> ExportError:
    call = f"{node.target} with {dict(node.kwargs)}" if node.kwargs else str(node.target)
    return ExportError(f"--target onnx: {call} can't be written as ONNX yet; use --target xnnpack")


def _unary(*operators: str) -> Write:
    """Operators one after the other."""

    def written(writer: Writer, node: Node) -> str:
        value = writer.operand(node.args[0], node.meta["val"].dtype)
        for operator in operators:
            value = writer.add(operator, value)
        return value

    return written


def _binary(operator: str) -> Write:
    """An operator on two tensors, or a tensor and a number, in the result's type."""

    def written(writer: Writer, node: Node) -> str:
        if node.kwargs:
            raise _unknown(node)
        dtype = node.meta["val"].dtype
        return writer.add(operator, *(writer.operand(arg, dtype) for arg in node.args))

    return written


def _compare(operator: str) -> Write:
    """A comparison, in the type that both sides have in common."""

    def written(writer: Writer, node: Node) -> str:
        values = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in node.args]
        dtype = torch.result_type(*values)
        return writer.add(operator, *(writer.operand(arg, dtype) for arg in node.args))

    return written


def _along(operator: str) -> Write:
    """An operator along an axis, the second argument."""
    return lambda writer, node: writer.add(operator, writer.names[node.args[0]], axis=node.args[1])


def _clamp(writer: Writer, node: Node) -> str:
    dtype = node.meta["val"].dtype
    x, *bounds = node.args
    names = ["" if bound is None else writer.operand(bound, dtype) for bound in bounds]
    return writer.add("Clip", writer.operand(x, dtype), *names)


def _expm1(writer: Writer, node: Node) -> str:
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), which is exact near 0 as well."""
    x, dtype = writer.names[node.args[0]], node.meta["val"].dtype
    half = writer.add("Mul", x, writer.operand(0.5, dtype))
    above = writer.add("Add", writer.add("Exp", x), writer.operand(1.0, dtype))
    return writer.add("Mul", writer.add("Tanh", half), above)


def _gelu(writer: Writer, node: Node) -> str:
    approximate = node.kwargs.get("approximate", "none")
    return writer.add("Gelu", writer.names[node.args[0]], approximate=approximate)


def _full(writer: Writer, node: Node) -> str:
    value = node.meta["val"]
    fill = helper.make_tensor("fill", TYPES[value.dtype], [1], [node.args[1]])
    return writer.add("ConstantOfShape", writer.sizes(value.shape), value=fill)


def _sum(writer: Writer, node: Node) -> str:
    x, axes, *keep = node.args
    value = writer.operand(x, node.meta["val"].dtype)
    axes = axes or range(x.meta["val"].dim())
    return writer.add("ReduceSum", value, writer.sizes(axes), keepdims=int(any(keep)))


def _linear(writer: Writer, node: Node) -> str:
    inputs = [writer.names[arg] for arg in node.args if arg is not None]
    return writer.add("Gemm", *inputs, transB=1)


def _mm(writer: Writer, node: Node) -> str:
    """A transposed left side, as in gradients of weights, stays where it is."""
    left, right = node.args
    transposed = left.target is aten.permute_copy.default
    source = left.args[0] if transposed else left
    names = writer.names[source], writer.names[right]
    return writer.add("Gemm", *names, transA=int(transposed))


def _reshape(writer: Writer, node: Node) -> str:
    return writer.add("Reshape", writer.names[node.args[0]], writer.sizes(node.meta["val"].shape))


def _expand(writer: Writer, node: Node) -> str:
    return writer.add("Expand", writer.names[node.args[0]], writer.sizes(node.meta["val"].shape))


def _permute(writer: Writer, node: Node) -> str:
    rank = node.meta["val"].dim()
    order = [axis % rank for axis in node.args[1]]
    return writer.add("Transpose", writer.names[node.args[0]], perm=order)


def _slice(writer: Writer, node: Node) -> str:
    x, given = node.args[0], list(node.args[1:])
    axis, start, end, step = given + [0, None, None, 1][len(given) :]
    bounds = (start or 0, _TO_THE_END if end is None else end, axis, step)
    return writer.add("Slice", writer.names[x], *(writer.sizes([bound]) for bound in bounds))


def _select(writer: Writer, node: Node) -> str:
    x, axis, index = node.args
    return writer.add("Gather", writer.names[x], writer.constant(torch.tensor(index)), axis=axis)


def _cumsum(writer: Writer, node: Node) -> str:
    value = writer.operand(node.args[0], node.meta["val"].dtype)
    return writer.add("CumSum", value, writer.constant(torch.tensor(node.args[1])))


def _cat(writer: Writer, node: Node) -> str:
    parts, axis = (*node.args, 0)[:2]
    return writer.add("Concat", *(writer.names[part] for part in parts), axis=axis)


def _pad(writer: Writer, node: Node) -> str:
    """ATen counts axes from the last one; ONNX wants all starts, then all ends."""
    x, widths, *value = node.args
    pairs = [*zip(widths[::2], widths[1::2], strict=True)][::-1]
    pairs = [(0, 0)] * (x.meta["val"].dim() - len(pairs)) + pairs
    pads = writer.sizes([*(before for before, _ in pairs), *(after for _, after in pairs)])
    fill = writer.operand(value[0] if value else 0.0, x.meta["val"].dtype)
    return writer.add("Pad", writer.names[x], pads, fill)


def _different(writer: Writer, node: Node) -> str:
    return writer.add("Not", _compare("Equal")(writer, node))


def _embedding(writer: Writer, node: Node) -> str:
    return writer.add("Gather", *(writer.names[arg] for arg in node.args[:2]))


def _cast(writer: Writer, node: Node) -> str:
    return writer.operand(node.args[0], node.meta["val"].dtype)


_OPERATORS: dict[Any, Write] = {
    aten._log_softmax.default: _along("LogSoftmax"),
    aten._softmax.default: _along("Softmax"),
    aten._to_copy.default: _cast,
    aten.abs.default: _unary("Abs"),
    aten.add.Tensor: _binary("Add"),
    aten.bmm.default: _binary("MatMul"),
    aten.cat.default: _cat,
    aten.clamp.default: _clamp,
    aten.constant_pad_nd.default: _pad,
    aten.cumsum.default: _cumsum,
    aten.div.Tensor: _binary("Div"),
    aten.embedding.default: _embedding,
    aten.eq.Tensor: _compare("Equal"),
    aten.exp.default: _unary("Exp"),
    aten.expand_copy.default: _expand,
    aten.expm1.default: _expm1,
    aten.full_like.default: _full,
    aten.ge.Scalar: _compare("GreaterOrEqual"),
    aten.gelu.default: _gelu,
    aten.linear.default: _linear,
    aten.log.default: _unary("Log"),
    aten.lt.Scalar: _compare("Less"),
    aten.mm.default: _mm,
    aten.mul.Tensor: _binary("Mul"),
    aten.ne.Scalar: _different,
    aten.neg.default: _unary("Neg"),
    aten.permute_copy.default: _permute,
    aten.pow.Tensor_Scalar: _binary("Pow"),
    aten.reciprocal.default: _unary("Reciprocal"),
    aten.relu.default: _unary("Relu"),
    aten.rsqrt.default: _unary("Sqrt", "Reciprocal"),
    aten.select.int: _select,
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.slice.Tensor: _slice,
    aten.sqrt.default: _unary("Sqrt"),
    aten.sub.Tensor: _binary("Sub"),
    aten.sum.dim_IntList: _sum,
    aten.tanh.default: _unary("Tanh"),
    aten.view_copy.default: _reshape,
}
