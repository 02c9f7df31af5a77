"""effine's side of a timed step: the programs, run as the Trainer runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effine.export.bench.rivals.case import Batch, Turn, timed
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import ExecuTorchEngine


def program_turns(
    artifact: Artifact, batch: Batch, start: Mapping[str, np.ndarray]
) -> dict[str, Turn]:
    """Turns that train on one batch at its own sequence length.

    Args:
        start: parameters to start from; the others are the artifact's initial ones.

    Returns:
        `step` runs backbone and train, `train` the train program with cached features.
    """
    manifest = artifact.manifest
    engine = ExecuTorchEngine(artifact)
    size, seq = batch.tokens["input_ids"].shape
    backbone, _ = manifest.backbone_method(size, seq)
    train, _ = manifest.train_method(seq)
    state = artifact.initial_state() | dict(start)
    recipe = manifest.recipe
    rates = {"pieces": recipe.piece_rate, "head": recipe.head_rate}
    fixed = {
        "attention_mask": batch.tokens["attention_mask"],
        "labels": batch.labels,
        "example_weight": np.ones(size, np.float32),
        "weight_sum": np.array([size], np.float32),
        **{f"learning_rate.{group}": np.array([rate], np.float32) for group, rate in rates.items()},
    }
    cached = engine.run(backbone, batch.tokens)
    count = 0

    def update(features: dict[str, np.ndarray]) -> None:
        nonlocal count
        count += 1
        step = np.array([count], np.float32)
        outputs = engine.run(train, {**features, **fixed, **state, "step": step})
        state.update({name: outputs[name] for name in state})

    return {
        "step": timed(lambda: update(engine.run(backbone, batch.tokens))),
        "train": timed(lambda: update(cached)),
    }
