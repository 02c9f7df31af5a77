"""A training run: its hyper-parameters, its progress, and where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from effine.runtime.engines import Arrays
from effine.runtime.errors import ArtifactError
from effine.runtime.manifest import Manifest
from effine.runtime.report import Report

IMPLIED = {"cache_precision": "fp32", "phase": None}
"""Settings that checkpoints leave out."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a run.

    Args:
        piece_rate, head_rate: peak learning rates of the two parameter groups.
        schedule: `constant`, `linear` or `cosine`, after a linear warm-up.
        warmup: share of the updates that warm up.
        accumulate: batches whose gradients one update sums up.
        class_weights: `balanced` to weight examples against the label frequencies.
        patience: stop after this many epochs without a better metric; 0 never stops.
        keep_best: end with the parameters of the epoch with the best metric.
        cache_precision: what features are rounded to, whether they are cached or not:
            `fp32`, `fp16` or `int8`.
        phase: where the run starts; by default in the first phase.
    """

    epochs: int
    piece_rate: float
    head_rate: float
    schedule: str
    warmup: float
    accumulate: int = 1
    seed: int = 0
    class_weights: str | None = None
    patience: int = 0
    keep_best: bool = True
    cache_precision: str = "fp32"
    phase: str | None = None

    @classmethod
    def from_recipe(cls, manifest: Manifest, **chosen: Any) -> Settings:
        """The artifact's recipe with the given settings in place of its own."""
        given = {name: value for name, value in chosen.items() if value is not None}
        settings = cls(**(dataclasses.asdict(manifest.recipe) | given))
        settings.check(manifest)
        return settings

    def check(self, manifest: Manifest) -> None:
        """Refuse what the artifact's programs can't do.

        Raises:
            ArtifactError: gradients are to be summed up and no method does it.
        """
        if self.accumulate > 1 and not manifest.accumulates:
            raise ArtifactError(
                f"--accumulate {self.accumulate}: artifact {manifest.name!r} has no program for "
                "it; export with --accumulate"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON data; what `IMPLIED` says goes without saying."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if (name, value) not in IMPLIED.items()
        }


@dataclass(frozen=True)
class Progress:
    """Handed to callbacks after every update; `metrics` only at the end of an epoch."""

    update: int
    total: int
    epoch: int
    loss: float | None
    metrics: dict[str, float] | None = None


Callback = Callable[[Progress], None]


@dataclass
class Run:
    """Where a run stands; with the state this is what a checkpoint holds."""

    settings: Settings
    fingerprint: str = ""
    total: int = 0
    epoch: int = 0
    cursor: int = 0
    update: int = 0
    step: int = 0
    best_metric: float | None = None
    best: Arrays | None = None
    patience_left: int = 0
    policy: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    @property
    def exhausted(self) -> bool:
        """Whether the metric hasn't improved for `patience` epochs."""
        return self.settings.patience > 0 and self.patience_left <= 0
