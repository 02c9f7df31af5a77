"""Fewer bits for the frozen weights: which tensors, and an emulation in PyTorch.

The emulation is the reference that quantised programs are compared with. It rounds
activations, weights and transposed weights as the programs do, apart from the pass that
quantises the captured graph; only the scales of 4-bit weights, which are searched, are
taken from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effine.export.errors import ExportError
from effine.export.lowering.quantise import GROUP, per_group
from effine.export.model import Model

Rounding = Callable[[Tensor], Tensor]
_JITTER = 1e-6
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Precision:
    """How the frozen weights of a model are stored.

    Args:
        name: `fp32`, `int8` or `int4`.
        weights: rounded weights [out, in], in fp32, by their name.
        biases: corrected biases [out] by the name of the layer's weight.
    """

    name: str
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def quantised(self) -> bool:
        """Whether anything is rounded."""
        return self.name != "fp32"

    @property
    def bits(self) -> int:
        """Bits of a quantised weight."""
        return 4 if self.name == "int4" else 8


FP32 = Precision("fp32")


def choose_precision(
    name: str, model: Model, examples: Iterable[Mapping[str, Tensor]]
) -> Precision:
    """Prepare the model's frozen weights for a precision.

    With 4 bits the errors of a weight's values add up to an offset of the output, which
    the bias takes back: b + (W - W') mean(x), as Nagel et al. (1906.04721, section 4.2).

    Args:
        examples: token inputs [B, S] over which the mean is taken.

    Raises:
        ExportError: a method that freezes no layer, int4 for one whose gradients pass
            through frozen layers, or for a backbone whose layers don't divide into groups.
    """
    if name == "fp32":
        return FP32
    if not model.method.freezes_layers:
        raise ExportError(
            f"--backbone-precision {name}: method '{model.method.name}' trains every layer; "
            "use fp32, or freeze some by --first-layer"
        )
    layers = frozen_matrices(model)
    if name == "int8":
        return Precision(name, {key: _int8(layer.weight) for key, layer in layers.items()})
    _check_int4(model, layers)
    weights = {key: _int4(layer.weight) for key, layer in layers.items()}
    means = _mean_inputs(model, layers, examples)
    biases = {
        key: _bias(layer) + (layer.weight.detach() - weights[key]) @ means[key]
        for key, layer in layers.items()
    }
    return Precision(name, weights, biases)


def _check_int4(model: Model, layers: Mapping[str, nn.Linear]) -> None:
    if model.method.cut < model.encoder.stages:
        raise ExportError(
            "--backbone-precision int4: method "
            f"'{model.method.name}' sends gradients through frozen layers, which 4 bits would "
            "distort by a quarter; use int8, or a method that trains above the encoder: head, read"
        )
    odd = next((layer for layer in layers.values() if layer.in_features % GROUP), None)
    if odd is not None:
        raise ExportError(
            f"--backbone-precision int4: needs layers of a multiple of {GROUP} inputs, the "
            f"backbone has one of {odd.in_features}; use int8"
        )


def frozen_matrices(model: Model) -> dict[str, nn.Linear]:
    """The frozen linear layers of encoder and decoder blocks, by the name of their weight."""
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if name.startswith(("encoder.layers.", "encoder.decoder.layers."))
        and isinstance(module, nn.Linear)
        and not module.weight.requires_grad
    }


def frozen_tables(model: Model) -> dict[str, nn.Embedding]:
    """The word embeddings, by the name of their weight."""
    embeddings: Any = model.encoder.embeddings
    return {"encoder.embeddings.words.weight": embeddings.words}


@contextmanager
def emulated(model: Model, precision: Precision, jitter: int | None = None) -> Iterator[None]:
    """Inside, the frozen layers compute as the programs of this precision do.

    Args:
        jitter: seed of relative noise of 1e-6 on what is rounded, as large as the
            differences between two ways of adding up the same numbers.
    """
    with ExitStack() as stack:
        if precision.quantised:
            rows = _rows if jitter is None else _Jittered(jitter)
            for name, layer in frozen_matrices(model).items():
                forward = _linear(layer, precision.weights[name], precision.biases.get(name), rows)
                stack.enter_context(_computing(layer, forward))
            for table in frozen_tables(model).values():
                stack.enter_context(_computing(table, _lookup(table)))
        yield


class _Product(torch.autograd.Function):
    """x W^T with x rounded row by row; the gradient has its own rounded W^T."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, transposed: Callable[[], Tensor], rows: Rounding
    ) -> Tensor:
        ctx.transposed, ctx.rows = transposed, rows
        return rows(x) @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.rows(grads[0]) @ ctx.transposed().T, None, None, None


class _Jittered:
    """Rounds rows of slightly disturbed values.

    The noise is a random part of a pool: drawing it takes five times as long as rounding.
    """

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.factors = torch.empty(0)

    def __call__(self, x: Tensor) -> Tensor:
        count = x.numel()
        if len(self.factors) < 2 * count:
            self.factors = 1 + _JITTER * torch.randn(2 * count, generator=self.random)
        begin = int(torch.randint(len(self.factors) - count, (), generator=self.random))
        return _rows(x * self.factors[begin : begin + count].view(x.shape))


def _linear(
    layer: nn.Linear, weight: Tensor, bias: Tensor | None, rows: Rounding
) -> Callable[[Tensor], Tensor]:
    @functools.cache
    def transposed() -> Tensor:
        return _int8(layer.weight.T)

    def forward(x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(x, weight, transposed, rows)
        return product + (_bias(layer) if bias is None else bias)

    return forward


def _bias(layer: nn.Linear) -> Tensor:
    """The bias of a layer, zeros if it has none."""
    bias: Tensor | None = layer.bias
    return layer.weight.new_zeros(layer.out_features) if bias is None else bias


def _lookup(table: nn.Embedding) -> Callable[[Tensor], Tensor]:
    weight = _int8(table.weight)
    return lambda ids: F.embedding(ids, weight)


def _rows(x: Tensor) -> Tensor:
    """Rows of x [N, d] rounded to int8 with a scale and zero point each."""
    low = x.amin(dim=-1, keepdim=True).clamp(max=0)
    high = x.amax(dim=-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=_TINY)
    zero = (-128 - low / scale).round()
    return (x / scale).round_().add_(zero).clamp_(-128, 127).sub_(zero).mul_(scale)


def _int8(matrix: Tensor) -> Tensor:
    """Each row of [out, in] rounded to 8 bits, symmetrically."""
    matrix = matrix.detach()
    scale = matrix.abs().amax(dim=1).clamp(min=_TINY) / 127
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(matrix, scale, zero, 0, -127, 127)


def _int4(matrix: Tensor) -> Tensor:
    """Groups of 32 inputs of [out, in] rounded to 4 bits, with the scales of the programs."""
    matrix = matrix.detach()
    scale = per_group(matrix)[1].flatten()
    zero = torch.zeros(len(scale), dtype=torch.int32)
    groups = matrix.reshape(-1, GROUP)
    return torch.fake_quantize_per_channel_affine(groups, scale, zero, 0, -8, 7).view_as(matrix)


@torch.no_grad()
def _mean_inputs(
    model: Model, layers: Mapping[str, nn.Linear], examples: Iterable[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The mean input [in] of each layer over all tokens."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: seen[name].append(inputs[0])

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        for tokens in examples:
            model.features(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(rows).mean(dim=0) for name, rows in seen.items()}


@contextmanager
def _computing(module: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
