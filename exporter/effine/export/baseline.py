"""The frozen-head score: what a linear head on the untouched backbone reaches.

It is stored in the manifest, so that a training report can say whether the method
was worth it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from effine.export.backbones import Backbone
from effine.export.encoder import ALL_TOKENS, Encoder
from effine.export.tasks import Task
from effine.runtime.tasks import Samples
from effine.runtime.tasks import Task as RuntimeTask
from effine.runtime.tokenize import pad

FOLDS = 5
MOST_EXAMPLES = 1000
MOST_VECTORS = 8000
_BATCH = 32
_DECAY = 1e-3


def chosen_examples(encoder: Encoder, count: int, max_length: int) -> np.ndarray:
    """Positions of random examples: at most 1,000, or 8,000 tokens where none are pooled."""
    most = MOST_VECTORS // max_length if encoder.pooling == ALL_TOKENS else MOST_EXAMPLES
    return np.random.default_rng(0).permutation(count)[: max(2 * FOLDS, most)]


def frozen_head_score(
    backbone: Backbone, task: Task, known: RuntimeTask, samples: Samples, labels: Sequence[str]
) -> float:
    """Cross-validated main metric of a head on pooled features, folds by example."""
    features = frozen_features(backbone, samples)
    targets = torch.from_numpy(samples.labels)
    folds = torch.from_numpy(samples.owners % FOLDS)
    outputs = torch.zeros(*features.shape[:-1], task.outputs)
    for fold in range(FOLDS):
        held_out = folds == fold
        if held_out.all() or not held_out.any():
            continue
        head = _fit(task, features[~held_out], targets[~held_out])
        outputs[held_out] = head(features[held_out]).detach()[..., : task.outputs]
    rows = [
        row[: len(tokens.ids)] if row.ndim > 1 else row
        for row, tokens in zip(outputs.numpy(), samples.tokens, strict=True)
    ]
    return known.evaluate(rows, samples, labels)[known.metrics[0]]


@torch.no_grad()
def frozen_features(backbone: Backbone, samples: Samples) -> Tensor:
    """What a head sees of the frozen encoder, in eager PyTorch: [N, d], or [N, S, d] unpooled.

    S is the length that labels of tokens have.
    """
    encoder = backbone.encoder
    order = np.argsort([len(t.ids) for t in samples.tokens], kind="stable")
    shape = samples.labels.shape[-1:] if encoder.pooling == ALL_TOKENS else ()
    features = torch.zeros(len(samples), *shape, encoder.hidden)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = [samples.tokens[i] for i in rows]
        seq = max(len(t.ids) for t in batch)
        arrays = pad(batch, len(batch), seq, backbone.pad_id, encoder.token_inputs)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        mask = inputs["attention_mask"]
        states = encoder.run(encoder.embed(inputs), mask, 0, encoder.stages)[-1]
        pooled = encoder.pool(states, mask)
        if pooled.dim() == 3:
            features[rows, :seq] = pooled
        else:
            features[rows] = pooled
    return features


def _fit(task: Task, features: Tensor, targets: Tensor) -> torch.nn.Linear:
    head = task.head(features.shape[-1])
    solver = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = task.reference_loss(head(features), targets).mean()
        loss = loss + _DECAY * head.weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return head
