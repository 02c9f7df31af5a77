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


@dataclass(frozen=True)
class Work:
    """What all points share: the method, the backbone's source, and how often to step.

    Args:
        settings: of the exports, beyond shapes and first layer.
    """

    method: str
    source: str
    threads: int
    steps: int
    warmup: int
    settings: Mapping[str, Any]

    def export(self, folder: Path, **shape: Any) -> Artifact:
        """An artifact in the folder."""
        out = folder / f"{'-'.join(map(str, shape.values()))}.effine"
        return export(self.source, method=self.method, out=out, **self.settings, **shape)

    def medians(self, turns: Mapping[str, Turn]) -> dict[str, float]:
        """Each turn's median milliseconds, all turns taken in every round."""
        times = alternate(turns, self.steps, self.warmup)
        return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}


def bench_scaling(work: Work, grid: Grid) -> dict[str, Any]:
    """Time steps over the grid, one of each in every round, and fit two models to the medians.

    Returns:
        `points` with `fit` = a + b*B*S + c*B*S^2 milliseconds; `layers` with `lines`
        a + b * layers above the cut, of the whole step and of the train program.

    Raises:
        ExportError: the method has no pieces in the layers, or the grid doesn't suit.
    """
    depth = load_backbone(work.source).encoder.depth
    first_layers = grid.first_layers or tuple(range(1, depth + 1))
    if not known_methods()[work.method].layered:
        raise ExportError(f"--method {work.method}: has no pieces inside the layers")
    if max(first_layers) > depth:
        raise ExportError(f"--first-layers {max(first_layers)}: the backbone has {depth} layers")
    if len(grid.batches) * len(grid.seqs) < 4 or len(grid.seqs) < 2:
        raise ExportError("--batches, --seqs: three coefficients need 4 points, with 2 lengths")
    set_threads(work.threads)
    with TemporaryDirectory(prefix="effine-") as scratch:
        points = _measure_sizes(work, grid, Path(scratch))
        layers = _measure_layers(work, grid, first_layers, depth, Path(scratch))
    return {
        "method": work.method,
        "precision": work.settings["backbone_precision"],
        "model": Path(work.source).name,
        "threads": work.threads,
        "steps": work.steps,
        "points": points,
        "fit": fit_size(points),
        "layers": layers,
        "lines": {part: fit_layers(layers, f"{part}_ms") for part in ("step", "train")},
    }


def _measure_sizes(work: Work, grid: Grid, folder: Path) -> list[dict[str, Any]]:
    """A step's milliseconds at every B and S."""
    lengths = ",".join(map(str, sorted(grid.seqs)))
    sized = {batch: work.export(folder, batch=batch, seq=lengths) for batch in grid.batches}
    pairs = [(batch, seq) for batch in grid.batches for seq in grid.seqs]
    medians = work.medians({f"{b} {s}": _turns(sized[b], s)["step"] for b, s in pairs})
    return [{"batch": b, "seq": s, "ms": medians[f"{b} {s}"]} for b, s in pairs]


def _measure_layers(
    work: Work, grid: Grid, first_layers: Sequence[int], depth: int, folder: Path
) -> list[dict[str, Any]]:
    """A step's and its train program's milliseconds by first layer, at the largest B and S."""
    batch, seq = max(grid.batches), max(grid.seqs)
    raised = {
        first: work.export(folder, batch=batch, seq=str(seq), first_layer=first)
        for first in first_layers
    }
    medians = work.medians(
        {
            f"{first} {part}": turn
            for first, artifact in raised.items()
            for part, turn in _turns(artifact, seq).items()
        }
    )
    return [
        {
            "first_layer": first,
            "above": depth - reference_model(artifact, work.source).method.layers_below,
            "step_ms": medians[f"{first} step"],
            "train_ms": medians[f"{first} train"],
        }
        for first, artifact in raised.items()
    ]


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
