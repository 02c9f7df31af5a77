"""The training report: what happened, and whether the model learned."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from effine.runtime.manifest_fields import FrozenHead

_FLAT = 0.98


@dataclass
class Epoch:
    """One pass over the data: mean training loss (None if every update was discarded)
    and metrics on the evaluation data."""

    epoch: int
    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class Report:
    """What `fit` returns; it is part of every checkpoint, so it survives a restart.

    Args:
        discarded: updates that were thrown away because the loss or the new state was
            not finite, with the positions of their samples in the data.
        truncated: texts that were cut to the longest exported length.
        loss_sum, weight_sum: the running epoch, so far.
        best_epoch: the epoch whose parameters were kept, 0 for the last.
        cache: whether features were cached, and the estimate behind it.
        uncached: how many samples were beyond the bound of the cache.
        decisions: what the method's policy found and decided between updates; each has
            `update`, the `epoch` with its fraction, the `phase` that follows and the `reason`.
    """

    samples: int = 0
    truncated: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    discarded: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    best_epoch: int = 0
    cancelled: bool = False
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    decisions: list[dict[str, Any]] = field(default_factory=list)
    cache: str = field(default="", compare=False)
    uncached: int = field(default=0, compare=False)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the kept parameters on the evaluation data; empty without such data."""
        if not self.epochs:
            return {}
        kept = self.best_epoch or self.epochs[-1].epoch
        return next(e.metrics for e in self.epochs if e.epoch == kept)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return dataclasses.asdict(self)

    def saved(self) -> dict[str, Any]:
        """What a checkpoint keeps: all but what depends on the machine and the cache."""
        kept = {field.name for field in dataclasses.fields(self) if field.compare}
        if not self.decisions:
            kept.remove("decisions")
        return {name: value for name, value in self.to_dict().items() if name in kept}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """The inverse of `to_dict` and `saved`."""
        return cls(**{**data, "epochs": [Epoch(**epoch) for epoch in data["epochs"]]})


def diagnose(
    report: Report,
    *,
    changed: bool,
    collapse: str | None,
    frozen_head: FrozenHead | None,
) -> list[str]:
    """Warnings about training that didn't learn, each with the likely cause.

    Args:
        changed: whether any parameter differs from where training started.
        collapse: what to say if the same is predicted for all of the evaluation data.
        frozen_head: the score of a linear head on the frozen backbone, shown beside.
    """
    found = []
    losses = [epoch.loss for epoch in report.epochs if epoch.loss is not None]
    if not changed:
        found.append(
            "the parameters didn't change: all updates were discarded, or the learning rates are 0"
        )
    elif len(losses) > 1 and losses[-1] > losses[0]:
        found.append(f"the loss rose ({losses[0]:.4g} to {losses[-1]:.4g}): lower learning rates")
    elif len(losses) > 1 and losses[-1] > _FLAT * losses[0]:
        found.append(
            f"the loss is flat ({losses[0]:.4g} to {losses[-1]:.4g}): raise the learning rates "
            "or the number of epochs, and check that labels match their texts"
        )
    if collapse is not None:
        found.append(collapse)
    if found and frozen_head is not None:
        score = f"{frozen_head.metric} {frozen_head.score:.3f} ({frozen_head.data})"
        found.append(f"for comparison, a linear head on the frozen backbone reaches {score}")
    return found
