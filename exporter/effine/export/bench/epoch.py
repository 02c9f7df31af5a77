"""`effine bench epoch`: whole epochs with the Trainer against PyTorch with dynamic padding."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from effine.export.bench.eager import predict_eager
from effine.export.bench.rivals.network import (
    as_tensors,
    descend,
    rival_network,
    torch_optimizer,
)
from effine.export.methods import known_methods
from effine.export.tasks import find_task as find_exported_task
from effine.runtime.artifact import Artifact
from effine.runtime.dataset import load_dataset
from effine.runtime.examples import Example
from effine.runtime.run import Progress
from effine.runtime.schedule import rate
from effine.runtime.tasks import find_task
from effine.runtime.tokenize import pad
from effine.runtime.trainer import Trainer


class EagerEpochs:
    """Trains the rival epoch by epoch; each batch is padded to its longest text.

    Args:
        rival: `eager`, the artifact's method by its recipe, or `full`, every weight by the
            recipe of full tuning.
        seed: of the order of the examples.
    """

    def __init__(
        self,
        artifact: Artifact,
        source: str,
        examples: Sequence[Example],
        epochs: int,
        *,
        rival: str = "eager",
        seed: int = 0,
    ) -> None:
        self._artifact = artifact
        self._examples = examples
        self._rival = rival_network(artifact, source, rival)
        self._recipe: Any = artifact.manifest.recipe
        if rival == "full":
            task = find_exported_task(artifact.manifest.task.name)
            self._recipe = task.recipe(known_methods()["full"].recipe)
        self._optimizer = torch_optimizer(
            self._rival.named_parameters(), artifact.manifest, fused=True
        )
        self._random = np.random.default_rng(seed)
        self._total = epochs * -(-len(examples) // artifact.manifest.shapes.batch)
        self._update = 0

    def run(self) -> float:
        """Train one epoch, tokenizing included; returns the seconds it took."""
        start = time.perf_counter()
        manifest = self._artifact.manifest
        data = load_dataset(self._artifact, self._examples, manifest.task.labels)
        order = self._random.permutation(len(data))
        for first in range(0, len(order), manifest.shapes.batch):
            chosen = order[first : first + manifest.shapes.batch]
            samples = [data.tokens[i] for i in chosen]
            longest = max(len(sample.ids) for sample in samples)
            info = manifest.tokens
            arrays = pad(samples, len(samples), longest, info.pad_id, info.inputs)
            loss = self._rival.loss(as_tensors(arrays), torch.from_numpy(data.labels[chosen]))
            descend(self._optimizer, loss, self._rates(), manifest.optimizer.clip_norm)
            self._update += 1
        return time.perf_counter() - start

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self._rival.parameters() if p.requires_grad)

    def evaluate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Metrics of the trained rival."""
        task = self._artifact.manifest.task
        data = load_dataset(self._artifact, examples, task.labels)
        outputs = predict_eager(self._rival, self._artifact, data)
        return find_task(task.name).evaluate(outputs, data, task.labels)

    def _rates(self) -> dict[str, float]:
        recipe = self._recipe
        peaks = {"pieces": recipe.piece_rate, "head": recipe.head_rate}
        return {
            group: float(rate(recipe.schedule, peak, self._update, self._total, recipe.warmup))
            for group, peak in peaks.items()
        }


@dataclass(frozen=True)
class TrainingData:
    """Examples, and the name of the data set they are from."""

    name: str
    examples: Sequence[Example]


def bench_epoch(
    artifact: Artifact, source: str, data: TrainingData, *, threads: int, epochs: int
) -> dict[str, Any]:
    """Time epochs of the Trainer and of the rival, alternating.

    The Trainer's first epoch holds reading and tokenizing, loading the programs and
    filling the cache; the rival tokenizes in every epoch.

    Args:
        source: the backbone as given at export.
        data: what to train on.
        threads: size of both thread pools.
    """
    torch.set_num_threads(threads)
    rival = EagerEpochs(artifact, source, data.examples, epochs)
    trainer = Trainer(artifact, threads=threads)
    own, eager = alternate_epochs(trainer, rival, data.examples, epochs)
    ratios = [a / b for a, b in zip(own, eager, strict=True)]
    return {
        "data": data.name,
        "method": artifact.manifest.method_info.name,
        "precision": artifact.manifest.backbone.precision,
        "model": artifact.manifest.backbone.name,
        "batch": artifact.manifest.shapes.batch,
        "seqs": list(artifact.manifest.shapes.seqs),
        "threads": threads,
        "examples": len(data.examples),
        "effine_s": own,
        "eager_s": eager,
        "first_ratio": ratios[0],
        "later_ratio": statistics.median(ratios[1:]) if ratios[1:] else None,
    }


def alternate_epochs(
    trainer: Trainer, rival: EagerEpochs, examples: Sequence[Example], epochs: int, seed: int = 0
) -> tuple[list[float], list[float]]:
    """Train both, an epoch of one after an epoch of the other; the seconds of each."""
    own: list[float] = []
    eager: list[float] = []
    start = time.perf_counter()

    def alternate(progress: Progress) -> None:
        nonlocal start
        if progress.metrics is not None:
            own.append(time.perf_counter() - start)
            eager.append(rival.run())
            start = time.perf_counter()

    trainer.fit(examples, epochs=epochs, seed=seed, callbacks=[alternate])
    return own, eager
