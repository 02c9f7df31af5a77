"""The frozen-head score: what a linear head on the untouched backbone reaches.

It is stored in the manifest, so that a training report can say whether the method
was worth it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from effine.export.encoder import Encoder
from effine.export.tasks import Task
from effine.runtime.metrics import evaluate, main_metric
from effine.runtime.tokenize import Tokens, pad

FOLDS = 5
MOST_EXAMPLES = 1000
_BATCH = 32
_DECAY = 1e-3


def frozen_head_score(
    encoder: Encoder, task: Task, tokens: Sequence[Tokens], labels: np.ndarray, pad_id: int
) -> float:
    """Cross-validated main metric of a head on pooled features, on at most 1,000 examples."""
    chosen = np.random.default_rng(0).permutation(len(tokens))[:MOST_EXAMPLES]
    pooled = pooled_features(encoder, [tokens[i] for i in chosen], pad_id)
    targets = torch.from_numpy(labels[chosen])
    outputs = torch.zeros(len(chosen), task.outputs + task.spare)
    for fold in range(FOLDS):
        held_out = torch.arange(len(chosen)) % FOLDS == fold
        if held_out.all() or not held_out.any():
            continue
        head = _fit(task, pooled[~held_out], targets[~held_out])
        outputs[held_out] = head(pooled[held_out]).detach()
    scores = evaluate(task.name, outputs[:, : task.outputs].numpy(), targets.numpy())
    return float(scores[main_metric(task.name)])


@torch.no_grad()
def pooled_features(encoder: Encoder, tokens: Sequence[Tokens], pad_id: int) -> Tensor:
    """Pooled final states [N, d] of the frozen encoder, in eager PyTorch."""
    order = np.argsort([len(t.ids) for t in tokens], kind="stable")
    pooled = torch.zeros(len(tokens), encoder.hidden)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = [tokens[i] for i in rows]
        seq = min(max(len(t.ids) for t in batch), encoder.max_positions)
        batch = [Tokens(t.ids[:seq], t.type_ids[:seq]) for t in batch]
        arrays = pad(batch, len(batch), seq, pad_id, encoder.token_inputs)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        mask = inputs["attention_mask"]
        states = encoder.run(encoder.embed(inputs), mask, 0, encoder.stages)[-1]
        pooled[rows] = encoder.pool(states, mask)
    return pooled


def _fit(task: Task, pooled: Tensor, targets: Tensor) -> torch.nn.Linear:
    head = task.head(pooled.shape[1])
    solver = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = task.reference_loss(head(pooled), targets).mean()
        loss = loss + _DECAY * head.weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return head
