"""Optimizers as tensor code, captured into the training program.

Each is a pure function of parameters, gradients and moments. Names of moments are
those of torch.optim. Decay is decoupled and leaves biases and norms (tensors of one
dimension) alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from effine.export.errors import ExportError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Optimizer:
    """Settings shared by all optimizers.

    Args:
        weight_decay: decoupled decay of tensors with two or more dimensions.
        clip_norm: bound on the norm of all gradients together; 0 for none.
    """

    weight_decay: float = 0.01
    clip_norm: float = 0.0

    name: ClassVar[str]
    moments: ClassVar[tuple[str, ...]]

    def step(
        self,
        params: Tensors,
        grads: Tensors,
        moments: Mapping[str, Tensors],
        rates: Tensors,
        step: Tensor,
    ) -> tuple[Tensors, dict[str, Tensors]]:
        """One update.

        Args:
            params, grads: tensors by name.
            moments: for each moment, a tensor by parameter name.
            rates: the learning rate of each parameter, [1].
            step: updates since the moments were zero, this one included, [1] float32.

        Returns:
            New parameters and new moments.
        """
        grads = self._clip(grads)
        scalars = self._scalars(step)
        new_params: Tensors = {}
        new_moments: dict[str, Tensors] = {name: {} for name in self.moments}
        for name, param in params.items():
            own = [moments[moment][name] for moment in self.moments]
            direction, own = self._direction(grads[name], own, scalars)
            decayed = self.weight_decay > 0 and param.dim() > 1
            kept = param * (1.0 - rates[name] * self.weight_decay) if decayed else param
            new_params[name] = kept - rates[name] * direction
            for moment, value in zip(self.moments, own, strict=True):
                new_moments[moment][name] = value
        return new_params, new_moments

    def _direction(
        self, grad: Tensor, moments: list[Tensor], scalars: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError

    def _scalars(self, step: Tensor) -> list[Tensor]:
        """What an update derives from the step count alone, once for all tensors."""
        return []

    def _clip(self, grads: Tensors) -> Tensors:
        """Scale all gradients as torch.nn.utils.clip_grad_norm_ does."""
        if not self.clip_norm:
            return grads
        squares = [torch.mm(g.reshape(1, -1), g.reshape(-1, 1)).view(1) for g in grads.values()]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        factor = (self.clip_norm / (torch.sqrt(total) + 1e-6)).clamp(0.0, 1.0)
        return {name: grad * factor for name, grad in grads.items()}

    def reference(self, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
        """The torch.optim optimizer that the golden run uses."""
        raise NotImplementedError

    def first_gradient_factor(self) -> float:
        """The gradient divided by the first moment after one step from zero."""
        raise NotImplementedError


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW with bias correction. Loshchilov & Hutter, 1711.05101, algorithm 2."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    name = "adamw"
    moments = ("exp_avg", "exp_avg_sq")

    def _direction(
        self, grad: Tensor, moments: list[Tensor], scalars: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        first = moments[0] * self.beta1 + grad * (1.0 - self.beta1)
        second = moments[1] * self.beta2 + grad * grad * (1.0 - self.beta2)
        scale, eps = scalars
        return first * scale / (torch.sqrt(second) + eps), [first, second]

    def _scalars(self, step: Tensor) -> list[Tensor]:
        correction1 = -torch.expm1(step * math.log(self.beta1))
        correction2 = torch.sqrt(-torch.expm1(step * math.log(self.beta2)))
        return [correction2 / correction1, correction2 * self.eps]

    def reference(self, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
        """torch.optim.AdamW with the same settings."""
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), eps=self.eps)

    def first_gradient_factor(self) -> float:
        """1 / (1 - beta1)."""
        return 1.0 / (1.0 - self.beta1)


@dataclass(frozen=True)
class SGD(Optimizer):
    """SGD with momentum; decay is decoupled here as in AdamW."""

    momentum: float = 0.9

    name = "sgd"
    moments = ("momentum_buffer",)

    def _direction(
        self, grad: Tensor, moments: list[Tensor], scalars: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        buffer = moments[0] * self.momentum + grad
        return buffer, [buffer]

    def reference(self, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
        """torch.optim.SGD, with its coupled decay made decoupled."""
        return _DecoupledSGD(groups, momentum=self.momentum)

    def first_gradient_factor(self) -> float:
        """The buffer is the gradient."""
        return 1.0


class _DecoupledSGD(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        decays = [group["weight_decay"] for group in self.param_groups]
        with torch.no_grad():
            for group, decay in zip(self.param_groups, decays, strict=True):
                for param in group["params"]:
                    param.mul_(1.0 - group["lr"] * decay)
                group["weight_decay"] = 0.0
        super().step()
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.name: cls for cls in (AdamW, SGD)}


def make_optimizer(name: str, weight_decay: float, clip_norm: float) -> Optimizer:
    """Build an optimizer by name.

    Raises:
        ExportError: the name is unknown or a setting is out of range.
    """
    if name not in OPTIMIZERS:
        raise ExportError(f"--optimizer {name}: choose from {', '.join(OPTIMIZERS)}")
    if weight_decay < 0 or clip_norm < 0:
        raise ExportError("--weight-decay and --clip-norm can't be negative")
    return OPTIMIZERS[name](weight_decay=weight_decay, clip_norm=clip_norm)
