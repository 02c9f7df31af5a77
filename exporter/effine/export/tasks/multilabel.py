"""Any number of labels, for one text or a pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.tasks import task
from effine.export.tasks.classification import Classification
from effine.runtime.examples import Example


@task
class MultiLabel(Classification):
    """A yes or no for each label; a spare row says no to everything and gets no gradient."""

    name = "multilabel"
    label_dtype = torch.float32
    fewest = 1
    has_samples = False
    begins_with_words = False

    def label_shape(self, seq: int) -> tuple[int, ...]:
        """A 1 or 0 for each row of the head."""
        return (self.outputs + self.spare,)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy of logits [B, C] and labels [B, C] (float32), mean over labels."""
        each = nn.functional.softplus(logits) - logits * labels
        return each.sum(1) * (1.0 / self.outputs)

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy by PyTorch."""
        each = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return each.sum(1) / self.outputs

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Few of the labels."""
        return [
            dataclasses.replace(
                example, labels=tuple(label for label in labels if random.random() < 0.2)
            )
            for example in examples
        ]
