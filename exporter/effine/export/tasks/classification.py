"""One label out of several, for one text or a pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.tasks import Task, task
from effine.runtime.examples import Example

SPARE_BIAS = -1e4


@task
class Classification(Task):
    """Softmax over the labels; spare rows have no probability and get no gradient."""

    name = "classification"
    label_dtype = torch.int64
    has_samples = True
    begins_with_words = True
    _rows: Tensor | None = None

    def head(self, hidden: int) -> nn.Linear:
        """The linear head, spare rows switched off by their bias."""
        head = super().head(hidden)
        with torch.no_grad():
            head.bias[self.outputs :] = SPARE_BIAS
            if self._rows is not None:
                head.weight[: self.outputs] = self._rows
        return head

    def begin_with(self, rows: Tensor) -> None:
        """Let later heads start from these rows [outputs, d]."""
        self._rows = rows

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of logits [B, C] and labels [B] (int64)."""
        chosen = (labels.unsqueeze(1) == torch.arange(logits.shape[1])).to(logits.dtype)
        return -(torch.log_softmax(logits, dim=1) * chosen).sum(1)

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy by PyTorch."""
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Mostly the first label."""
        chosen = skewed(len(examples), labels, random)
        return [
            dataclasses.replace(example, label=label)
            for example, label in zip(examples, chosen, strict=True)
        ]


def skewed(count: int, labels: Sequence[str], random: np.random.Generator) -> list[str]:
    """Labels drawn at random, most of them the first."""
    drawn = np.where(random.random(count) < 0.7, 0, random.integers(0, len(labels), count))
    return [labels[index] for index in drawn]
