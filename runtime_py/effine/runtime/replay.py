"""Replays an artifact's golden run through an engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, Engine
from effine.runtime.features import MASK
from effine.runtime.manifest import Manifest
from effine.runtime.phases import StateTensor, moved
from effine.runtime.state import zero_gradients
from effine.runtime.tensors import read_tensors, write_tensors


def replay(
    artifact: Artifact, engine: Engine, *, interrupted: bool = False, accumulated: bool = False
) -> Arrays:
    """Run the golden run's steps.

    Args:
        interrupted: write the state to a file half-way, drop it, and go on from the file.
        accumulated: take each step as two, with the gradients of every other row, and
            apply their sums.

    Returns:
        `features.*` and `logits` of the first batch, `loss` [steps], `gradient.*` of the
        first step, `end.*` and `statistic.*` after the last one and `decay.*` after an
        update without gradients; `at.{phase}.*` has features, logits and gradients of the
        first step in each other phase. Whole tensors.
    """
    manifest = artifact.manifest
    golden, metadata = artifact.golden_with_metadata()
    turns = phase_turns(metadata)
    start = _start(artifact, golden)
    at = Moment(manifest.first_phase, start, 0)
    seen: set[str] = set()
    result: Arrays = {}
    train = _accumulate if accumulated else _train
    losses: list[float] = []
    steps = len(golden["loss"])
    for step in range(steps):
        if step in turns:
            at = _turned(manifest, at, turns[step], _indices(golden, step))
        inputs = _inputs(golden, step)
        inputs |= _features(artifact, engine, inputs, at)
        prefix = phase_prefix(at.phase, manifest.first_phase)
        first = at.phase not in seen
        if first:
            seen.add(at.phase)
            names = _feature_names(artifact, inputs, at)
            result |= {f"{prefix}features.{name}": inputs[name] for name in names}
            result[f"{prefix}logits"] = _logits(artifact, engine, inputs, at)
        outputs = train(artifact, engine, inputs, at)
        state = {name: outputs.get(name, array) for name, array in at.state.items()}
        at = Moment(at.phase, state, at.step + 1)
        losses.append(float(outputs["loss"][0]))
        if first:
            result |= {prefix + key: array for key, array in _gradients(artifact, at).items()}
        if interrupted and step + 1 == steps // 2:
            at = Moment(at.phase, _through_file(at.state), at.step)
    result["loss"] = np.array(losses, np.float32)
    end = {f"end.{entry.name}": at.state[entry.name] for entry in manifest.parameters}
    sums = {f"statistic.{e.name}": at.state[e.name] for e in _statistics(manifest, at.phase)}
    return result | end | sums | _decay(artifact, engine, golden, start)


@dataclass(frozen=True)
class Moment:
    """Where a replay stands; `step` counts updates since the moments were zero."""

    phase: str
    state: Arrays
    step: int


def phase_turns(metadata: Mapping[str, str]) -> dict[int, str]:
    """The phases that the golden run goes to, by the step before which it does."""
    return {int(step): phase for step, phase in json.loads(metadata.get("phases", "{}")).items()}


def phase_prefix(phase: str, first: str) -> str:
    """What precedes the names of tensors that belong to a phase other than the first."""
    return "" if phase == first else f"at.{phase}."


def within(arrays: Arrays, phase: str) -> Arrays:
    """The tensors of a later phase, under the names that those of the first phase have."""
    prefix = f"at.{phase}."
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _turned(manifest: Manifest, at: Moment, phase: str, indices: Arrays) -> Moment:
    transition = manifest.transition(at.phase, phase)
    state = moved(transition, manifest.layout(phase), at.state, indices)
    return Moment(phase, state, 0 if transition.restarts else at.step)


def _indices(golden: Arrays, step: int) -> Arrays:
    prefix = f"indices.{step}."
    return {key.removeprefix(prefix): a for key, a in golden.items() if key.startswith(prefix)}


def _statistics(manifest: Manifest, phase: str) -> list[StateTensor]:
    return [entry for entry in manifest.layout(phase) if entry.role == "statistic"]


def _start(artifact: Artifact, golden: Arrays) -> Arrays:
    return {
        entry.name: golden.get(f"start.{entry.name}", np.zeros(entry.shape, np.float32))
        for entry in artifact.manifest.layout(artifact.manifest.first_phase)
    }


def _inputs(golden: Arrays, step: int) -> Arrays:
    prefix = f"batch.{step}."
    return {key.removeprefix(prefix): a for key, a in golden.items() if key.startswith(prefix)}


def _features(artifact: Artifact, engine: Engine, inputs: Arrays, at: Moment) -> Arrays:
    """What the backbone computes; nothing where the token inputs are the features."""
    if not artifact.manifest.has_backbone:
        return {}
    batch, seq = inputs["input_ids"].shape
    name, _ = artifact.manifest.backbone_method(batch, seq, at.phase)
    return engine.run(name, inputs | at.state)


def _feature_names(artifact: Artifact, inputs: Arrays, at: Moment) -> list[str]:
    """The names of the features: what the backbone returns, else the token inputs but the mask."""
    if not artifact.manifest.has_backbone:
        return [name for name in artifact.manifest.tokens.inputs if name != MASK]
    batch, seq = inputs["input_ids"].shape
    _, method = artifact.manifest.backbone_method(batch, seq, at.phase)
    return [spec.name for spec in method.outputs]


def _logits(artifact: Artifact, engine: Engine, inputs: Arrays, at: Moment) -> np.ndarray:
    batch, seq = inputs["input_ids"].shape
    name, _ = artifact.manifest.predict_method(batch, seq, at.phase)
    return engine.run(name, inputs | at.state)["logits"]


def _train(artifact: Artifact, engine: Engine, inputs: Arrays, at: Moment) -> Arrays:
    name, _ = artifact.manifest.train_method(inputs["input_ids"].shape[1], at.phase)
    return engine.run(name, inputs | at.state | _next_step(at))


def _accumulate(artifact: Artifact, engine: Engine, inputs: Arrays, at: Moment) -> Arrays:
    manifest = artifact.manifest
    accumulate, signature = manifest.accumulate_method(inputs["input_ids"].shape[1], at.phase)
    apply, _ = manifest.apply_method(at.phase)
    sums = zero_gradients(signature)
    weights = inputs["example_weight"]
    even = np.arange(len(weights)) % 2 == 0
    loss = np.zeros(1, np.float32)
    for rows in (even, ~even):
        outputs = engine.run(
            accumulate, inputs | at.state | sums | {"example_weight": np.where(rows, weights, 0)}
        )
        sums = {name: outputs[name] for name in sums}
        loss += outputs["loss"]
    return engine.run(apply, inputs | at.state | sums | _next_step(at)) | {"loss": loss}


def _next_step(at: Moment) -> Arrays:
    return {"step": np.array([at.step + 1], np.float32)}


def _gradients(artifact: Artifact, at: Moment) -> Arrays:
    """Gradients of the first step, read from the first moments, which started at zero."""
    optimizer = artifact.manifest.optimizer
    factor = np.float32(optimizer.first_gradient_factor)
    moments = {e.name: f"{e.name}.{optimizer.moments[0]}" for e in artifact.manifest.state}
    return {
        f"gradient.{name}": at.state[moment] * factor
        for name, moment in moments.items()
        if moment in at.state
    }


def _decay(artifact: Artifact, engine: Engine, golden: Arrays, start: Arrays) -> Arrays:
    """One update in which every example weighs nothing: only weight decay acts."""
    inputs = _inputs(golden, 0)
    inputs |= {
        "example_weight": np.zeros_like(inputs["example_weight"]),
        "weight_sum": np.ones(1, np.float32),
        **{name: golden["decay_rate"] for name in inputs if name.startswith("learning_rate.")},
    }
    at = Moment(artifact.manifest.first_phase, start, 0)
    inputs |= _features(artifact, engine, inputs, at)
    outputs = _train(artifact, engine, inputs, at)
    return {f"decay.{e.name}": outputs[e.name] for e in artifact.manifest.parameters}


def _through_file(state: Arrays) -> Arrays:
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        path = Path(folder, "state.safetensors")
        write_tensors(path, state, {"format": "effine state"})
        return read_tensors(path)[0]
