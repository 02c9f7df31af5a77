"""Replays an artifact's golden run through an engine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, Engine
from effine.runtime.state import zero_gradients
from effine.runtime.tensors import read_tensors, write_tensors

STEPS = 20
INTERRUPTED = STEPS // 2


def replay(
    artifact: Artifact, engine: Engine, *, interrupted: bool = False, accumulated: bool = False
) -> Arrays:
    """Run the golden run's steps.

    Args:
        interrupted: write the state to a file half-way, drop it, and go on from the file.
        accumulated: take each step as two, with the gradients of every other row, and
            apply their sums.

    Returns:
        `features.*` and `logits` of the first batch, `loss` [20], `gradient.*` of the
        first step, `end.*` after the last one and `decay.*` after an update without
        gradients; whole tensors.
    """
    manifest = artifact.manifest
    golden = artifact.golden()
    start = _start(artifact, golden)
    state = start
    result: Arrays = {}
    train = _accumulate if accumulated else _train
    losses = []
    for step in range(STEPS):
        inputs = _inputs(golden, step)
        features = _features(artifact, engine, inputs)
        if step == 0:
            result |= {f"features.{name}": array for name, array in features.items()}
            result["logits"] = _logits(artifact, engine, inputs | features, state)
        outputs = train(artifact, engine, inputs | features, state, step + 1)
        state = {name: outputs[name] for name in state}
        losses.append(float(outputs["loss"][0]))
        if step == 0:
            result |= _gradients(artifact, state)
        if interrupted and step + 1 == INTERRUPTED:
            state = _through_file(state)
    result["loss"] = np.array(losses, np.float32)
    result |= {f"end.{entry.name}": state[entry.name] for entry in manifest.parameters}
    return result | _decay(artifact, engine, golden, start)


def _start(artifact: Artifact, golden: Arrays) -> Arrays:
    return {
        entry.name: golden.get(f"start.{entry.name}", np.zeros(entry.shape, np.float32))
        for entry in artifact.manifest.state
    }


def _inputs(golden: Arrays, step: int) -> Arrays:
    prefix = f"batch.{step}."
    return {key.removeprefix(prefix): a for key, a in golden.items() if key.startswith(prefix)}


def _features(artifact: Artifact, engine: Engine, inputs: Arrays) -> Arrays:
    batch, seq = inputs["input_ids"].shape
    name, _ = artifact.manifest.backbone_method(batch, seq)
    return engine.run(name, inputs)


def _logits(artifact: Artifact, engine: Engine, inputs: Arrays, state: Arrays) -> np.ndarray:
    batch, seq = inputs["input_ids"].shape
    name, _ = artifact.manifest.predict_method(batch, seq)
    return engine.run(name, inputs | state)["logits"]


def _train(artifact: Artifact, engine: Engine, inputs: Arrays, state: Arrays, step: int) -> Arrays:
    name, _ = artifact.manifest.train_method(inputs["input_ids"].shape[1])
    return engine.run(name, inputs | state | {"step": np.array([step], np.float32)})


def _accumulate(
    artifact: Artifact, engine: Engine, inputs: Arrays, state: Arrays, step: int
) -> Arrays:
    accumulate, signature = artifact.manifest.accumulate_method(inputs["input_ids"].shape[1])
    apply, _ = artifact.manifest.apply_method()
    sums = zero_gradients(signature)
    weights = inputs["example_weight"]
    even = np.arange(len(weights)) % 2 == 0
    loss = np.zeros(1, np.float32)
    for rows in (even, ~even):
        outputs = engine.run(
            accumulate, inputs | state | sums | {"example_weight": np.where(rows, weights, 0)}
        )
        sums = {name: outputs[name] for name in sums}
        loss += outputs["loss"]
    stepped = engine.run(apply, inputs | state | sums | {"step": np.array([step], np.float32)})
    return stepped | {"loss": loss}


def _gradients(artifact: Artifact, state: Arrays) -> Arrays:
    """Gradients of the first step, read from the first moment, which started at zero."""
    optimizer = artifact.manifest.optimizer
    factor = np.float32(optimizer.first_gradient_factor)
    return {
        f"gradient.{entry.name}": state[f"{entry.name}.{optimizer.moments[0]}"] * factor
        for entry in artifact.manifest.parameters
    }


def _decay(artifact: Artifact, engine: Engine, golden: Arrays, start: Arrays) -> Arrays:
    """One update in which every example weighs nothing: only weight decay acts."""
    inputs = _inputs(golden, 0)
    inputs |= {
        "example_weight": np.zeros_like(inputs["example_weight"]),
        "weight_sum": np.ones(1, np.float32),
        **{name: golden["decay_rate"] for name in inputs if name.startswith("learning_rate.")},
    }
    features = _features(artifact, engine, inputs)
    outputs = _train(artifact, engine, inputs | features, start, 1)
    return {f"decay.{e.name}": outputs[e.name] for e in artifact.manifest.parameters}


def _through_file(state: Arrays) -> Arrays:
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        path = Path(folder, "state.safetensors")
        write_tensors(path, state, {"format": "effine state"})
        return read_tensors(path)[0]
