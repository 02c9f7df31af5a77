"""A tag for each word of a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.encoder import ALL_TOKENS
from effine.export.tasks import task
from effine.export.tasks.classification import Classification, skewed
from effine.runtime.examples import Example
from effine.runtime.tasks.token_classification import IGNORED


@task
class TokenClassification(Classification):
    """Softmax over the tags at the first token of each word; other tokens have no label.

    The loss of an example is the mean over its labelled tokens, so a long text counts as much
    as a short one.
    """

    name = "token-classification"
    pooling = ALL_TOKENS
    has_samples = False

    def label_shape(self, seq: int) -> tuple[int, ...]:
        """A label for each token; `IGNORED` where there is none."""
        return (seq,)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of logits [B, S, C] at the labels [B, S] (int64) from 0 on."""
        each = super().loss(logits.flatten(0, 1), labels.view(-1)).view(labels.shape)
        return each.sum(1) / _counted(labels)

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy by PyTorch."""
        each = nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        return each.sum(1) / _counted(labels)

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Mostly the first tag."""
        return [
            dataclasses.replace(
                example, words=tuple(words), tags=tuple(skewed(len(words), labels, random))
            )
            for example, words in ((example, example.text.split()) for example in examples)
        ]


def _counted(labels: Tensor) -> Tensor:
    """How many tokens of each example have a label, at least 1; [B]."""
    return (labels >= 0).to(torch.float32).sum(1).clamp(min=1.0)
