"""Training and prediction of effine's own model by PyTorch autograd and torch.optim."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from effine.export.bench.rivals.network import (
    RivalNetwork,
    as_tensors,
    descend,
    torch_optimizer,
)
from effine.export.capture import MASK
from effine.export.model import Model
from effine.runtime.artifact import Artifact
from effine.runtime.dataset import Dataset
from effine.runtime.labels import batch_labels
from effine.runtime.order import batches
from effine.runtime.run import Settings
from effine.runtime.schedule import rate
from effine.runtime.tokenize import pad


def train_eager(model: Model, artifact: Artifact, data: Dataset, settings: Settings) -> None:
    """Train by autograd and torch.optim, in the Trainer's order and with its rates."""
    manifest = artifact.manifest
    optimizer = torch_optimizer(model.trainable().items(), manifest)
    size = manifest.shapes.batch * settings.accumulate
    orders = [
        batches(data.seqs.tolist(), size, settings.seed, epoch) for epoch in range(settings.epochs)
    ]
    steps = list(itertools.chain.from_iterable(orders))
    peaks = {"pieces": settings.piece_rate, "head": settings.head_rate}
    for update, chosen in enumerate(steps):
        logits = _logits(model, artifact, data, chosen)
        shape = model.task.label_shape(max(len(data.tokens[index].ids) for index in chosen))
        labels = torch.from_numpy(batch_labels(data.labels, chosen, shape))
        loss = model.task.reference_loss(logits, labels).mean()
        rates = {
            group: float(rate(settings.schedule, peak, update, len(steps), settings.warmup))
            for group, peak in peaks.items()
        }
        descend(optimizer, loss, rates, manifest.optimizer.clip_norm)


@torch.no_grad()
def predict_eager(
    model: Model | RivalNetwork, artifact: Artifact, data: Dataset
) -> list[np.ndarray]:
    """Logits of each sample, [C] or [L, C], computed in batches of similar length."""
    order = np.argsort(data.seqs, kind="stable")
    found: dict[int, np.ndarray] = {}
    for first in range(0, len(order), 32):
        rows = order[first : first + 32].tolist()
        logits = _logits(model, artifact, data, rows)[..., : model.task.outputs].numpy()
        found.update(zip(rows, logits, strict=True))
    if found[0].ndim == 1:
        return [found[i] for i in range(len(data))]
    return [found[i][: len(tokens.ids)] for i, tokens in enumerate(data.tokens)]


def _logits(
    model: Model | RivalNetwork, artifact: Artifact, data: Dataset, chosen: Sequence[int]
) -> torch.Tensor:
    samples = [data.tokens[index] for index in chosen]
    longest = max(len(sample.ids) for sample in samples)
    info = artifact.manifest.tokens
    tokens = as_tensors(pad(samples, len(samples), longest, info.pad_id, info.inputs))
    if isinstance(model, RivalNetwork):
        return model(tokens)
    return model(model.features(tokens), tokens[MASK])
