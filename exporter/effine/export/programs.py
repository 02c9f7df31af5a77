"""The programs of an artifact: captured, lowered, and described for the manifest."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from effine.export.capture import Captured
from effine.export.lowering.target import FrozenWeights, Lowered, Target, find_target
from effine.export.memory import predict_memory
from effine.export.model import Model
from effine.export.optimizers import Optimizer
from effine.export.phases import KINDS, capture_all, signature, state_layout
from effine.export.precision import FP32, Precision, frozen_matrices, frozen_tables
from effine.runtime.manifest_fields import MemoryInfo, Program, ProgramMethod, TargetInfo
from effine.runtime.phases import StateTensor


@dataclass(frozen=True)
class Programs:
    """What lowering produced.

    Args:
        target: what they are for.
        files: file name to content, for the programs and the shared weights.
        programs: the manifest's description of each program.
        delegates: delegates of each method.
        portable: operators outside delegates, of each method.
        memory: of a training run.
    """

    target: TargetInfo
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
    recompute: bool = False,
    target: str = "xnnpack",
    progress: Callable[[str], None] = lambda stage: None,
) -> Programs:
    """Capture and lower backbone, train and predict at all shapes.

    Args:
        batch: batch size of training; backbone and predict exist at batch 1 as well.
        seqs: ascending sequence lengths.
        precision: of the frozen weights.
        accumulate: also make the two methods that sum up gradients and apply the sums.
        recompute: results are computed again for the backward pass where that saves memory.
        target: what the programs are for.
        progress: called with a short description of each stage.
    """
    chosen = find_target(target)
    progress("capturing the programs")
    captured = capture_all(model, optimizer, batch, seqs, accumulate, recompute)
    kinds = [kind for kind in KINDS if captured[kind]]
    progress("lowering the programs")
    lowered = _lower_all(chosen, captured, _frozen_weights(model, precision))
    parts = [lowered[kind] for kind in kinds]
    state = {entry.name: entry for entry in state_layout(model, optimizer)}
    footprints = {name: found for part in parts for name, found in part.footprints.items()}
    return Programs(
        chosen.describe(),
        chosen.link(parts),
        _describe_programs(model, state, captured, lowered),
        {name: count for part in parts for name, count in part.delegates.items()},
        {name: ops for part in parts for name, ops in part.portable.items()},
        predict_memory(model, optimizer, batch, precision.name, captured, footprints, target),
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


def _describe_programs(
    model: Model,
    state: Mapping[str, StateTensor],
    captured: Mapping[str, Mapping[str, Captured]],
    lowered: Mapping[str, Lowered],
) -> dict[str, Program]:
    """The programs by the names of their files without the suffix."""
    methods: dict[str, dict[str, ProgramMethod]] = defaultdict(dict)
    for kind, part in lowered.items():
        for name, made in captured[kind].items():
            methods[part.file_of[name]][name] = signature(name, made, model, state)
    return {file.rpartition(".")[0]: Program(file, found) for file, found in methods.items()}


_JOBS: tuple[Target, dict[str, dict[str, Captured]], FrozenWeights]


def _lower_all(
    target: Target, captured: dict[str, dict[str, Captured]], weights: FrozenWeights
) -> dict[str, Lowered]:
    """Lower the programs side by side, or one after the other if PyTorch has a single thread.

    Forked workers see the graphs without copying them; what they have learned of operators is
    lost with them.
    """
    global _JOBS
    _JOBS = (target, captured, weights)
    by_effort = [kind for kind in ("train", "predict", "backbone") if captured[kind]]
    if torch.get_num_threads() == 1 or not sys.platform.startswith("linux"):
        return {kind: _lower_kind(kind) for kind in by_effort}
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, forked, initializer=_prepare_worker) as pool:
        return dict(zip(by_effort, pool.map(_lower_kind, by_effort), strict=True))


def _prepare_worker() -> None:
    gc.freeze()
    torch.set_num_threads(1)


def _lower_kind(kind: str) -> Lowered:
    target, captured, weights = _JOBS
    return target.lower(kind, captured[kind], weights)
