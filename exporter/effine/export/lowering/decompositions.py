"""Decompositions into operators that XNNPACK executes.

The core ATen set would leave erf, where-masks and the backward of softmax and layer
norm to portable kernels, each of which splits a delegate. Row sums are written as
sums here and become products with ones in `passes.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

aten = torch.ops.aten

_STEEP = 1e38
_GELU_STEP = 0.01


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """The decomposition table for capture."""
    own: dict[Any, Callable[..., Any]] = {
        aten.threshold_backward.default: _relu_backward,
        aten.gelu_backward.default: _gelu_backward,
        aten._softmax_backward_data.default: _softmax_backward,
        aten.native_layer_norm.default: _layer_norm,
        aten.native_layer_norm_backward.default: _layer_norm_backward,
        aten.select_backward.default: _select_backward,
        aten.slice_backward.default: _slice_backward,
        aten.sigmoid_backward.default: lambda grad, y: grad * (y * (1.0 - y)),
        aten.tanh_backward.default: lambda grad, y: grad * (1.0 - y * y),
        aten.square.default: lambda x: x * x,
        aten.pow.Tensor_Scalar: _power,
        aten.mul.Scalar: lambda x, factor: x * factor,
        aten.mean.dim: _mean,
        aten.roll.default: _roll,
        aten.softplus.default: _softplus,
        aten.softplus_backward.default: lambda grad, x, *_: grad * torch.sigmoid(x),
    }
    return {**core_aten_decompositions(), **own}


def _relu_backward(grad: Tensor, output: Tensor, threshold: float) -> Tensor:
    return grad * (output * _STEEP).clamp(0.0, 1.0)


def _gelu_backward(grad: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """Central difference of the delegated GELU; its error is about 7e-6."""
    above = aten.gelu(x + _GELU_STEP, approximate=approximate)
    below = aten.gelu(x - _GELU_STEP, approximate=approximate)
    return grad * ((above - below) * (0.5 / _GELU_STEP))


def _softmax_backward(grad: Tensor, output: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    weighted = grad * output
    return weighted - output * weighted.sum(dim, keepdim=True)


def _power(x: Tensor, exponent: float) -> Any:
    """The cube of a backward of rsqrt as products; other powers stay."""
    return x * x * x if exponent == 3 else NotImplemented


def _mean(x: Tensor, dim: list[int], keepdim: bool = False, dtype: Any = None) -> Tensor:
    count = 1
    for axis in dim:
        count *= x.shape[axis]
    return x.sum(dim, keepdim=keepdim) * (1.0 / count)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.sum(-1, keepdim=True) * (1.0 / shape[0])
    centred = x - mean
    variance = (centred * centred).sum(-1, keepdim=True) * (1.0 / shape[0])
    rstd = torch.rsqrt(variance + eps)
    scaled = centred * rstd * weight
    return scaled if bias is None else scaled + bias, mean, rstd


def _layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: list[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    normal = (x - mean) * rstd
    scaled = grad * weight
    share = 1.0 / shape[0]
    along = (scaled * normal).sum(-1, keepdim=True) * share
    offset = scaled.sum(-1, keepdim=True) * share
    return (
        (scaled - offset - normal * along) * rstd if mask[0] else None,
        (grad * normal).sum(0) if mask[1] else None,
        grad.sum(0) if mask[2] else None,
    )


def _roll(x: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
    """The last values of an axis become the first; the backward of a roll is a roll."""
    (shift,), (dim,) = shifts, dims
    split = -shift % x.shape[dim]
    return torch.cat([x.narrow(dim, split, x.shape[dim] - split), x.narrow(dim, 0, split)], dim)


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    return x.clamp(min=0.0) + torch.log(torch.exp(-x.abs()) + 1.0)


def _select_backward(grad: Tensor, sizes: list[int], dim: int, index: int) -> Tensor:
    dim %= len(sizes)
    padding = [0, 0] * (len(sizes) - dim - 1) + [index, sizes[dim] - index - 1]
    return aten.constant_pad_nd(grad.unsqueeze(dim), padding, 0.0)


def _slice_backward(
    grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int
) -> Tensor:
    """Of slices without gaps."""
    if step != 1:
        raise NotImplementedError("the gradient of a slice with gaps")
    dim %= len(sizes)
    start += sizes[dim] if start < 0 else 0
    rest = sizes[dim] - start - grad.shape[dim]
    return aten.constant_pad_nd(grad, [0, 0] * (len(sizes) - dim - 1) + [start, rest], 0.0)
