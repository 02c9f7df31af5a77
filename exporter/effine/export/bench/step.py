"""`effine bench step`: one training step on the programs against one in PyTorch eager."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import KernelCall

from effine.export.bench.rivals import (
    Rival,
    as_tensors,
    check_rival,
    descend,
    reference_model,
    torch_optimizer,
)
from effine.export.phases import KINDS
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import ExecuTorchEngine, set_threads

Turn = Callable[[], None]
SEQ = 64
BATCH = 8
_PAUSE = 0.005


@dataclass(frozen=True)
class Batch:
    """One full batch: every token is valid, which suits the rival's attention best."""

    tokens: dict[str, np.ndarray]
    labels: np.ndarray


def bench_step(
    artifact: Artifact, source: str, *, threads: Sequence[int], steps: int, warmup: int
) -> list[dict[str, Any]]:
    """Time steps of an artifact and of its rival, alternating.

    Args:
        source: the backbone as given at export.
        threads: sizes of both thread pools, one measurement for each.

    Returns:
        For each number of threads: medians and minima in milliseconds, and ratios of
        effine to eager; `train` is the train program alone, its features cached.
    """
    return [_measure(artifact, source, count, steps, warmup) for count in threads]


def export_for_step(
    method: str, source: str, folder: Path, batch: int, seq: int, **settings: Any
) -> Artifact:
    """An artifact of one shape for the sample intents; more settings are those of `export`."""
    out = folder / f"{method}.effine"
    return export(source, method=method, seq=str(seq), batch=batch, out=out, **settings)


def outside_delegates(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """For each program method: the number of delegates, and the operators outside them."""
    found = {}
    for kind in KINDS:
        content = artifact.file(artifact.manifest.programs[kind].file).read_bytes()
        program: Any = deserialize_pte_binary(content)
        for plan in getattr(program, "program", program).execution_plan:
            calls = [step.instr_args for chain in plan.chains for step in chain.instructions]
            outside = Counter(
                plan.operators[call.op_index].name for call in calls if isinstance(call, KernelCall)
            )
            if plan.delegates or outside:
                found[plan.name] = {"delegates": len(plan.delegates), "outside": dict(outside)}
    return found


def alternate(turns: dict[str, Turn], steps: int, warmup: int) -> dict[str, list[float]]:
    """Run the turns one after the other, again and again; seconds of each, by name.

    A short pause before each lets the other's worker threads stop spinning.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for index in range(warmup + steps):
        for name, turn in turns.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            turn()
            if index >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def _measure(
    artifact: Artifact, source: str, threads: int, steps: int, warmup: int
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    set_threads(threads)
    manifest = artifact.manifest
    model = reference_model(artifact, source, perturbed=True)
    rival = Rival(model, source)
    batch = _batch(artifact, rival.network.config.vocab_size)
    difference = check_rival(rival, model, as_tensors(batch.tokens))
    start = {name: p.detach().numpy().copy() for name, p in model.trainable().items()}
    before = os.getloadavg()
    times = alternate(
        {"eager": _eager_turn(rival, batch, artifact), **_program_turns(artifact, batch, start)},
        steps,
        warmup,
    )
    return {
        "method": manifest.method_info.name,
        "precision": manifest.backbone.precision,
        "pooling": manifest.backbone.pooling,
        "batch": manifest.shapes.batch,
        "seq": manifest.shapes.seqs[-1],
        "threads": threads,
        "steps": steps,
        "logits_difference": difference,
        "median_ms": {name: 1e3 * statistics.median(taken) for name, taken in times.items()},
        "min_ms": {name: 1e3 * min(taken) for name, taken in times.items()},
        "ratio_of_medians": _ratios(times, lambda own, theirs: _median(own) / _median(theirs)),
        "median_ratio": _ratios(
            times, lambda own, theirs: _median([a / b for a, b in zip(own, theirs, strict=True)])
        ),
        "load_before": before,
        "load_after": os.getloadavg(),
    }


def _ratios(
    times: dict[str, list[float]], ratio: Callable[[list[float], list[float]], float]
) -> dict[str, float]:
    return {name: ratio(times[name], times["eager"]) for name in ("step", "train")}


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _batch(artifact: Artifact, vocabulary: int) -> Batch:
    manifest = artifact.manifest
    random = np.random.default_rng(0)
    shape = (manifest.shapes.batch, manifest.shapes.seqs[-1])
    tokens = {name: np.zeros(shape, np.int64) for name in manifest.tokens.inputs}
    tokens["input_ids"] = random.integers(vocabulary // 10, vocabulary, shape)
    tokens["attention_mask"] = np.ones(shape, np.int64)
    if manifest.task.name == "regression":
        return Batch(tokens, random.normal(3.0, 1.0, shape[0]).astype(np.float32))
    return Batch(tokens, random.integers(0, len(manifest.task.labels), shape[0]))


def _rates(artifact: Artifact) -> dict[str, float]:
    recipe = artifact.manifest.recipe
    return {"pieces": recipe.piece_rate, "head": recipe.head_rate}


def _eager_turn(rival: Rival, batch: Batch, artifact: Artifact) -> Turn:
    tokens, labels = as_tensors(batch.tokens), torch.from_numpy(batch.labels)
    optimizer = torch_optimizer(rival.named_parameters(), artifact.manifest)
    rates, clip_norm = _rates(artifact), artifact.manifest.optimizer.clip_norm

    def turn() -> None:
        descend(optimizer, rival.loss(tokens, labels), rates, clip_norm)

    return turn


def _program_turns(
    artifact: Artifact, batch: Batch, start: dict[str, np.ndarray]
) -> dict[str, Turn]:
    manifest = artifact.manifest
    engine = ExecuTorchEngine(artifact)
    size, seq = manifest.shapes.batch, manifest.shapes.seqs[-1]
    backbone, _ = manifest.backbone_method(size, seq)
    train, _ = manifest.train_method(seq)
    state = artifact.initial_state() | start
    fixed = {
        "attention_mask": batch.tokens["attention_mask"],
        "labels": batch.labels,
        "example_weight": np.ones(size, np.float32),
        "weight_sum": np.array([size], np.float32),
        **{
            f"learning_rate.{group}": np.array([rate], np.float32)
            for group, rate in _rates(artifact).items()
        },
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
        "step": lambda: update(engine.run(backbone, batch.tokens)),
        "train": lambda: update(cached),
    }
