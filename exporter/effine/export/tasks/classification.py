"""One label out of several, for one text or a pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effine.export.tasks import Task, task

SPARE_BIAS = -1e4


@task
class Classification(Task):
    """Softmax over the labels; spare rows have no probability and get no gradient."""

    name = "classification"
    label_dtype = torch.int64

    def head(self, hidden: int) -> nn.Linear:
        """The linear head, spare rows switched off by their bias."""
        head = super().head(hidden)
        with torch.no_grad():
            head.bias[self.outputs :] = SPARE_BIAS
        return head

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of logits [B, C] and labels [B] (int64)."""
        chosen = (labels.unsqueeze(1) == torch.arange(logits.shape[1])).to(logits.dtype)
        return -(torch.log_softmax(logits, dim=1) * chosen).sum(1)

    def reference_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy by PyTorch."""
        return nn.functional.cross_entropy(logits, labels, reduction="none")
