"""`effine bench scaling`: how a step's time grows with the batch, the sequence and the depth."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from effine.export.backbones import load_backbone
from effine.export.bench.own import program_turns
from effine.export.bench.rivals.case import Turn, full_batch
from effine.export.bench.rivals.network import reference_model
from effine.export.bench.timing import alternate
from effine.export.errors import ExportError
from effine.export.methods import known_methods
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import set_threads


@dataclass(frozen=True)
class Grid:
    """Batch sizes B and sequence lengths S, all pairs; first layers, by default every one."""

    batches: tuple[int, ...]
    seqs: tuple[int, ...]
    first_layers: tuple[int, ...] | None = None


def bench_scaling(
    method: str,
    source: str,
    grid: Grid,
    *,
    threads: int,
    steps: int,
    warmup: int,
    **settings: Any,
) -> dict[str, Any]:
    """Time steps over the grid, one of each in every round, and fit two models to the medians.

    Args:
        source: the backbone.
        threads: size of the thread pool.
        settings: of the exports.

    Returns:
        `points` with `fit` = a + b*B*S + c*B*S^2 milliseconds; `layers` with `lines`
        a + b * layers above the cut, of the whole step and of the train program.

    Raises:
        ExportError: the method has no pieces in the layers, or the grid is too small.
    """
    if not known_methods()[method].layered:
        raise ExportError(f"--method {method}: has no pieces inside the layers")
    if len(grid.batches) * len(grid.seqs) < 4 or len(grid.seqs) < 2:
        raise ExportError("--batches, --seqs: three coefficients need 4 points, with 2 lengths")
    set_threads(threads)
    depth = load_backbone(source).encoder.depth
    first_layers = grid.first_layers or tuple(range(1, depth + 1))
    largest, longest = max(grid.batches), max(grid.seqs)
    with TemporaryDirectory(prefix="effine-") as scratch:

        def make(name: str, **more: Any) -> Artifact:
            out = Path(scratch, f"{name}.effine")
            return export(source, method=method, out=out, **settings, **more)

        sized = {
            batch: make(f"b{batch}", batch=batch, seq=",".join(map(str, sorted(grid.seqs))))
            for batch in grid.batches
        }
        raised = {
            first: make(f"l{first}", batch=largest, seq=str(longest), first_layer=first)
            for first in first_layers
        }
        turns = {
            f"{batch} {seq}": _turns(artifact, seq)["step"]
            for batch, artifact in sized.items()
            for seq in grid.seqs
        }
        medians = _medians(turns, steps, warmup)
        above = {
            first: depth - reference_model(artifact, source).method.layers_below
            for first, artifact in raised.items()
        }
        layered = {
            f"{first} {part}": turn
            for first, artifact in raised.items()
            for part, turn in _turns(artifact, longest).items()
        }
        layer_medians = _medians(layered, steps, warmup)
    points = [
        {"batch": batch, "seq": seq, "ms": medians[f"{batch} {seq}"]}
        for batch in grid.batches
        for seq in grid.seqs
    ]
    layers = [
        {
            "first_layer": first,
            "above": above[first],
            "step_ms": layer_medians[f"{first} step"],
            "train_ms": layer_medians[f"{first} train"],
        }
        for first in first_layers
    ]
    manifest = next(iter(sized.values())).manifest
    return {
        "method": method,
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "threads": threads,
        "steps": steps,
        "points": points,
        "fit": fit_size(points),
        "layers": layers,
        "lines": {part: fit_layers(layers, f"{part}_ms") for part in ("step", "train")},
    }


def fit_size(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """a, b, c and R^2 of ms = a + b*B*S + c*B*S^2, by least squares."""
    tokens = np.array([p["batch"] * p["seq"] for p in points], float)
    lengths = np.array([p["seq"] for p in points], float)
    columns = np.stack([np.ones_like(tokens), tokens, tokens * lengths], axis=1)
    return _fit(columns, np.array([p["ms"] for p in points]))


def fit_layers(layers: Sequence[Mapping[str, Any]], key: str) -> dict[str, float]:
    """a, b and R^2 of ms = a + b * layers above the cut, by least squares."""
    above = np.array([layer["above"] for layer in layers], float)
    columns = np.stack([np.ones_like(above), above], axis=1)
    return _fit(columns, np.array([layer[key] for layer in layers]))


def _fit(columns: np.ndarray, values: np.ndarray) -> dict[str, float]:
    coefficients = np.linalg.lstsq(columns, values, rcond=None)[0]
    residue = float(((values - columns @ coefficients) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    named = dict(zip("abc", coefficients.tolist(), strict=False))
    return named | {"r2": 1.0 - residue / total if total else 1.0}


def _turns(artifact: Artifact, seq: int) -> dict[str, Turn]:
    return program_turns(artifact, full_batch(artifact, seq), {})


def _medians(turns: Mapping[str, Turn], steps: int, warmup: int) -> dict[str, float]:
    times = alternate(turns, steps, warmup)
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
