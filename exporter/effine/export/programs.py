"""The programs of an artifact: captured, lowered, and described for the manifest."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from effine.export.capture import Captured
from effine.export.lowering.xnnpack import FrozenWeights, Lowered, lower, merge_weights
from effine.export.memory import predict_memory
from effine.export.model import Model
from effine.export.optimizers import Optimizer
from effine.export.phases import KINDS, capture_all, signature, state_layout
from effine.export.precision import FP32, Precision, frozen_matrices, frozen_tables
from effine.runtime.manifest import MemoryInfo, Program

WEIGHT_FILE = "backbone.ptd"


@dataclass(frozen=True)
class Programs:
    """What lowering produced.

    Args:
        files: file name to content, for the three programs and the shared weights.
        programs: the manifest's description of each program.
        delegates: delegates of each method.
        portable: operators outside delegates, of each method.
        memory: of a training run.
    """

    files: dict[str, bytes]
    programs: dict[str, Program]
    delegates: dict[str, int]
    portable: dict[str, dict[str, int]]
    memory: MemoryInfo


def build_programs(
    model: Model,
    optimizer: Optimizer,
    batch: int,
    seqs: Sequence[int],
    precision: Precision = FP32,
    accumulate: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Programs:
    """Capture and lower backbone, train and predict at all shapes.

    Args:
        batch: batch size of training; backbone and predict exist at batch 1 as well.
        seqs: ascending sequence lengths.
        precision: of the frozen weights.
        accumulate: also make the two methods that sum up gradients and apply the sums.
        progress: called with a short description of each stage.
    """
    progress("capturing the programs")
    captured = capture_all(model, optimizer, batch, seqs, accumulate)
    kinds = [kind for kind in KINDS if captured[kind]]
    progress("lowering the programs")
    lowered = _lower_all(captured, _frozen_weights(model, precision))
    files = {f"{kind}.pte": lowered[kind].program for kind in kinds}
    footprints = {name: f for kind in kinds for name, f in lowered[kind].footprints.items()}
    parts = [lowered[kind].weights for kind in kinds]
    state = {entry.name: entry for entry in state_layout(model, optimizer)}
    files[WEIGHT_FILE] = merge_weights(part for part in parts if part is not None)
    return Programs(
        files,
        {
            kind: Program(
                f"{kind}.pte",
                {name: signature(name, made, model, state) for name, made in methods.items()},
            )
            for kind, methods in captured.items()
            if methods
        },
        {name: count for kind in kinds for name, count in lowered[kind].delegates.items()},
        {name: ops for kind in kinds for name, ops in lowered[kind].portable.items()},
        predict_memory(model, optimizer, batch, precision.name, captured, footprints),
    )


def _frozen_weights(model: Model, precision: Precision) -> FrozenWeights:
    shared = {name for name in model.frozen() if name.startswith("encoder.")}
    shared -= {name for name, _ in model.named_buffers()}
    if not precision.quantised:
        return FrozenWeights(frozenset(shared))
    return FrozenWeights(
        frozenset(shared),
        {name: precision.biases.get(name) for name in frozen_matrices(model)},
        frozenset(frozen_tables(model)),
        precision.bits,
    )


_JOBS: tuple[dict[str, dict[str, Captured]], FrozenWeights]


def _lower_all(
    captured: dict[str, dict[str, Captured]], weights: FrozenWeights
) -> dict[str, Lowered]:
    """Lower the programs side by side; forked workers see the graphs without copying them."""
    global _JOBS
    _JOBS = (captured, weights)
    if not sys.platform.startswith("linux"):
        return {kind: _lower_kind(kind) for kind in captured if captured[kind]}
    by_effort = [kind for kind in ("train", "predict", "backbone") if captured[kind]]
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return dict(zip(by_effort, pool.map(_lower_kind, by_effort), strict=True))


def _lower_kind(kind: str) -> Lowered:
    torch.set_num_threads(1)
    captured, weights = _JOBS
    return lower(captured[kind], weights)
