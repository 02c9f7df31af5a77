"""effine's side of a timed step: the programs, run as the Trainer runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effine.export.bench.rivals.case import Batch, Turn, timed
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, make_engine
from effine.runtime.phases import TRAIN, moved


def program_turns(
    artifact: Artifact,
    batch: Batch,
    start: Mapping[str, np.ndarray],
    phase: str | None = None,
) -> dict[str, Turn]:
    """Turns that train on one batch at its own sequence length.

    Args:
        start: parameters to start from; the others are the artifact's initial ones.
        phase: by default the first.

    Returns:
        `step` runs backbone and train, `train` the train program with cached features.
    """
    manifest = artifact.manifest
    engine = make_engine(artifact)
    size, seq = batch.tokens["input_ids"].shape
    backbone, _ = manifest.backbone_method(size, seq, phase or TRAIN)
    train, _ = manifest.train_method(seq, phase)
    state = state_in(artifact, phase) | dict(start)
    recipe = manifest.recipe
    rates = {"pieces": recipe.piece_rate, "head": recipe.head_rate}
    fixed = {
        "attention_mask": batch.tokens["attention_mask"],
        "labels": batch.labels,
        "example_weight": np.ones(size, np.float32),
        "weight_sum": np.array([size], np.float32),
        **{f"learning_rate.{group}": np.array([rate], np.float32) for group, rate in rates.items()},
    }
    count = 0

    def features() -> Arrays:
        return engine.run(backbone, {**batch.tokens, **state})

    def update(features: Arrays) -> None:
        nonlocal count
        count += 1
        step = np.array([count], np.float32)
        outputs = engine.run(train, {**features, **fixed, **state, "step": step})
        state.update({name: outputs[name] for name in state if name in outputs})

    cached = features()
    return {
        "step": timed(lambda: update(features())),
        "train": timed(lambda: update(cached)),
    }


def predict_turn(artifact: Artifact, batch: Batch, phase: str | None = None) -> Turn:
    """A turn that predicts a batch at its own sequence length, backbone included."""
    manifest = artifact.manifest
    engine = make_engine(artifact)
    size, seq = batch.tokens["input_ids"].shape
    backbone, _ = manifest.backbone_method(size, seq, phase or TRAIN)
    predict, _ = manifest.predict_method(size, seq, phase)
    given = {**batch.tokens, **state_in(artifact, phase)}
    return timed(lambda: engine.run(predict, {**given, **engine.run(backbone, given)}))


def state_in(artifact: Artifact, phase: str | None) -> Arrays:
    """The initial state in the layout of a phase; where a policy would choose rows, the first."""
    manifest, state = artifact.manifest, artifact.initial_state()
    if phase is None or phase == manifest.first_phase:
        return state
    way = manifest.transition(manifest.first_phase, phase)
    layout = manifest.layout(phase)
    shapes = {entry.name: entry.shape for entry in layout}
    rows = {row.indices: np.arange(shapes[row.target][row.axis]) for row in way.gather}
    return moved(way, layout, state, rows)
