"""Encoder + method + task head = the model that is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from effine.export.encoder import Encoder
from effine.export.methods import Method
from effine.export.tasks import Task

GROUPS = ("pieces", "head")


class Model(nn.Module):
    """The trainable model in its two halves: token inputs to features, features to logits.

    Args:
        encoder: frozen; the method's pieces are installed into it.
        method: what is tuned, and how.
        task: the head and the loss.
        seed: seed of the pieces' and the head's initial values.
    """

    def __init__(self, encoder: Encoder, method: Method, task: Task, seed: int = 0) -> None:
        super().__init__()
        self.method = method
        self.task = task
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            method.install(encoder)
            method.place_cut(encoder)
            self.encoder = encoder
            self.head = task.head(encoder.hidden).requires_grad_()

    def features(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the backbone program returns for token inputs [B, S]."""
        return self.method.features(self.encoder, tokens)

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Logits [B, C], or [B, S, C] for tasks on tokens, from features and the mask [B, S]."""
        return self.head(self.method.represent(self.encoder, features, mask))

    def trainable(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name, in state order."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def frozen(self) -> dict[str, Tensor]:
        """Everything else that the programs read, by name."""
        parameters = {name: p for name, p in self.named_parameters() if not p.requires_grad}
        return parameters | dict(self.named_buffers())


def group_of(name: str) -> str:
    """The parameter group of a trained tensor: `head` or `pieces`."""
    return "head" if name.startswith("head.") else "pieces"
