"""A score, for one text or a pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.tasks import Task, task
from effine.runtime.examples import Example


@task
class Regression(Task):
    """Squared error on one output; its rates suit scores that differ by about 1."""

    name = "regression"
    label_dtype = torch.float32
    rates = (2.0, 0.3)

    def __init__(self, outputs: int, spare: int = 0) -> None:
        super().__init__(outputs, spare)
        self.center = 0.0

    def begin_at(self, targets: np.ndarray) -> None:
        """Start from the mean score, so that the first steps needn't move pieces to reach it."""
        self.center = float(targets.mean())

    def head(self, hidden: int) -> nn.Linear:
        """The linear layer from sentence vectors [B, d] to scores [B, 1]."""
        head = super().head(hidden)
        nn.init.constant_(head.bias, self.center)
        return head

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of logits [B, 1] and labels [B] (float32)."""
        error = logits.view(-1) - labels
        return error * error

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error by PyTorch."""
        return nn.functional.mse_loss(logits[:, 0], labels, reduction="none")

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Scores around 3."""
        scores = random.normal(3.0, 0.5, len(examples)).tolist()
        return [
            dataclasses.replace(example, score=score)
            for example, score in zip(examples, scores, strict=True)
        ]
