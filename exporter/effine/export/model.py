"""Encoder + method + task head = the model that is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from effine.export.encoder import Encoder
from effine.export.methods import Method, RowSets
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
            self.encoder = encoder
            self.head = task.head(encoder.hidden).requires_grad_()
        self.phases = method.phases(encoder)
        self.enter(self.phases[0])
        frozen = (name for name, p in self.named_parameters() if not p.requires_grad)
        self._constants = frozenset(frozen)

    def enter(self, phase: str, rows: RowSets | None = None) -> None:
        """Become what trains in a phase; what the first one doesn't train stays constant.

        Args:
            rows: the indices that the transition takes, by name; None for any.
        """
        self.phase = phase
        self.method.enter(self.encoder, phase, rows)
        self.method.place_cut(self.encoder)

    def features(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the backbone program returns for token inputs [B, S]."""
        return self.method.features(self.encoder, tokens)

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Logits [B, C], or [B, S, C] for tasks on tokens, from features and the mask [B, S]."""
        return self.head(self.method.represent(self.encoder, features, mask))

    def penalised(self, losses: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """The examples' losses [B] with what the method adds to each after this forward pass.

        Args:
            mask: [B, S].
            weights: of the examples, [B].
        """
        penalty = self.method.penalty(self.encoder, mask, weights)
        return losses if penalty is None else losses + penalty

    def learned(self) -> dict[str, nn.Parameter]:
        """The parameters in the state by name, in state order: those that train now or did."""
        return {n: p for n, p in self.named_parameters() if n not in self._constants}

    def trainable(self) -> dict[str, nn.Parameter]:
        """Those of them that train in the present phase."""
        return {name: p for name, p in self.learned().items() if p.requires_grad}

    def watched(self) -> dict[str, str]:
        """The group of each trained parameter of which a policy wants a sum."""
        groups = {name: self.method.watches(name) for name in self.trainable()}
        return {name: group for name, group in groups.items() if group is not None}

    def frozen(self) -> dict[str, Tensor]:
        """Everything else that the programs read, by name: constants in every phase."""
        parameters = {n: p for n, p in self.named_parameters() if n in self._constants}
        return parameters | dict(self.named_buffers())


def group_of(name: str) -> str:
    """The parameter group of a trained tensor: `pieces`, or `head` for all that learns faster."""
    return "head" if name.startswith(("head.", "encoder.gates.")) else "pieces"
