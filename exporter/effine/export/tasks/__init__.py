"""Tasks: one file each with the head, the loss per example and the labels' form.

Data are read and metrics computed where training happens, so that is in the runtime, under
the task's name (`effine.runtime.tasks`).
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.errors import ExportError
from effine.export.methods import Recipe
from effine.runtime.examples import Example
from effine.runtime.manifest_fields import TaskInfo
from effine.runtime.tasks import find_task as find_runtime_task


class Task:
    """What the model is trained to predict.

    Args:
        outputs: the number of the head's rows in use.
        spare: rows beyond them that a device may claim for labels of its own.

    Raises:
        ExportError: there are spare rows in a task without labels.
    """

    name: ClassVar[str]
    label_dtype: ClassVar[torch.dtype]
    rates: ClassVar[tuple[float, float]] = (1.0, 1.0)
    """Factors on the learning rates of pieces and head in a method's recipe."""
    pooling: ClassVar[str | None] = None
    """The pooling that the task needs; None leaves it to the user and the backbone."""
    fewest: ClassVar[int] = 2
    """How many labels, spare ones included, there must be at least where there are labels."""
    has_samples: ClassVar[bool] = False
    """Whether the packaged sentences are data for the task."""
    begins_with_words: ClassVar[bool] = False
    """Whether the head can start from a language model's rows for the labels' words."""

    def __init__(self, outputs: int, spare: int = 0) -> None:
        if spare and not find_runtime_task(self.name).labelled:
            raise ExportError(f"--spare-labels: {self.name} has no labels")
        self.outputs = outputs
        self.spare = spare

    @classmethod
    def recipe(cls, recipe: Recipe) -> Recipe:
        """A method's recipe as this task takes it."""
        pieces, head = cls.rates
        return dataclasses.replace(
            recipe, piece_rate=recipe.piece_rate * pieces, head_rate=recipe.head_rate * head
        )

    def label_shape(self, seq: int) -> tuple[int, ...]:
        """The shape of one example's label in a program for `seq` tokens."""
        return ()

    def head(self, hidden: int) -> nn.Linear:
        """The linear layer from vectors [..., d] to logits [..., outputs + spare].

        There is a vector for each text [B, d], or for each token [B, S, d].
        """
        head = nn.Linear(hidden, self.outputs + self.spare)
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def begin_at(self, targets: np.ndarray) -> None:
        """Let later heads start from what the targets [N, ...] of real data tell."""

    def begin_with(self, rows: Tensor) -> None:
        """Let later heads start from these rows [outputs, d], where `begins_with_words`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each example, [B], in tensor code that can be captured."""
        raise NotImplementedError

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same loss by PyTorch's own function, for the golden run."""
        raise NotImplementedError

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Unlabelled texts with made-up targets, which a model can fit within the golden run.

        Raises:
            ExportError: the task needs data.
        """
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


def task_of(info: TaskInfo) -> Task:
    """The task of an artifact."""
    outputs = find_runtime_task(info.name).outputs(info.labels)
    return make_task(info.name, outputs, info.spare_labels)
