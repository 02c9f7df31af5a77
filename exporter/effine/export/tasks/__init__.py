"""Tasks: one file each with the head, the loss per example and the labels' form.

Metrics are computed where training happens, so they live in the runtime under the
task's name (`effine.runtime.metrics`).
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.errors import ExportError
from effine.export.methods import Recipe


class Task:
    """What the model is trained to predict.

    Args:
        outputs: the number of the head's rows in use.
        spare: rows beyond them that a device may claim for labels of its own.
    """

    name: ClassVar[str]
    label_dtype: ClassVar[torch.dtype]
    rates: ClassVar[tuple[float, float]] = (1.0, 1.0)
    """Factors on the learning rates of pieces and head in a method's recipe."""

    def __init__(self, outputs: int, spare: int = 0) -> None:
        self.outputs = outputs
        self.spare = spare

    @classmethod
    def recipe(cls, recipe: Recipe) -> Recipe:
        """A method's recipe as this task takes it."""
        pieces, head = cls.rates
        return dataclasses.replace(
            recipe, piece_rate=recipe.piece_rate * pieces, head_rate=recipe.head_rate * head
        )

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one example's label."""
        return ()

    def head(self, hidden: int) -> nn.Linear:
        """The linear layer from sentence vectors [B, d] to logits [B, outputs + spare]."""
        head = nn.Linear(hidden, self.outputs + self.spare)
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def begin_at(self, targets: np.ndarray) -> None:
        """Let later heads start from what the targets [N, ...] of real data tell."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each example, [B], in tensor code that can be captured."""
        raise NotImplementedError

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same loss by PyTorch's own function, for the golden run."""
        raise NotImplementedError


_TASKS: dict[str, type[Task]] = {}


def task(cls: type[Task]) -> type[Task]:
    """Register a task by its name."""
    _TASKS[cls.name] = cls
    return cls


def known_tasks() -> dict[str, type[Task]]:
    """All tasks by name, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_TASKS.items()))


def find_task(name: str) -> type[Task]:
    """The task of this name.

    Raises:
        ExportError: the name is unknown.
    """
    cls = known_tasks().get(name)
    if cls is None:
        raise ExportError(f"--task {name}: not a task; known: {', '.join(known_tasks())}")
    return cls


def make_task(name: str, outputs: int, spare: int = 0) -> Task:
    """Build a task by name.

    Raises:
        ExportError: the name is unknown.
    """
    return find_task(name)(outputs, spare)
