"""The first and the last token of an answer in a context."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.encoder import ALL_TOKENS, MASKED
from effine.export.tasks import Task, task
from effine.runtime.examples import Answer, Example


@task
class QuestionAnswering(Task):
    """Two softmaxes over the tokens of a sample, padding left out.

    The loss of an example is the mean of both cross entropies, as in Devlin et al., 1810.04805,
    section 4.2.
    """

    name = "question-answering"
    label_dtype = torch.float32
    pooling = ALL_TOKENS

    def head(self, hidden: int) -> nn.Linear:
        """The linear layer from token vectors [B, S, d] to the marks' logits [B, S, 2].

        It has no bias: that would shift all tokens alike, which the softmax over them undoes.
        """
        head = nn.Linear(hidden, self.outputs, bias=False)
        nn.init.normal_(head.weight, std=0.02)
        return head

    def label_shape(self, seq: int) -> tuple[int, ...]:
        """1 at the first (row 0) and last token (row 1) of the answer, -1 at padding."""
        return (2, seq)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of logits [B, S, 2] and labels [B, 2, S] (float32)."""
        rows = labels.flatten(0, 1)
        padding = (rows < 0).to(torch.float32)
        scores = logits.transpose(1, 2).reshape(rows.shape) + padding * MASKED
        each = (torch.log_softmax(scores, dim=1) * rows.clamp(min=0.0)).sum(1)
        return each.view(-1, 2).sum(1) * -0.5

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy by PyTorch."""
        scores = logits.transpose(1, 2).masked_fill(labels < 0, MASKED).transpose(1, 2)
        targets = labels.clamp(min=0.0).transpose(1, 2)
        return nn.functional.cross_entropy(scores, targets, reduction="none").mean(1)

    @classmethod
    def stand_ins(
        cls, examples: Sequence[Example], labels: Sequence[str], random: np.random.Generator
    ) -> list[Example]:
        """Mostly the first word of the context answers."""
        made = []
        for example, context in zip(examples, [*examples[1:], examples[0]], strict=True):
            words = context.text.split()
            chosen = 0 if random.random() < 0.7 else int(random.integers(0, len(words)))
            answer = Answer(words[chosen], context.text.index(words[chosen]))
            made.append(dataclasses.replace(example, text_b=context.text, answers=(answer,)))
        return made
