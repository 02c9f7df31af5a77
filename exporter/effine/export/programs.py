"""The programs of an artifact: which methods exist, captured at every shape, and lowered."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from effine.export.capture import (
    MASK,
    Captured,
    backbone_function,
    capture,
    moment_name,
    predict_function,
    train_function,
)
from effine.export.lowering.xnnpack import FrozenWeights, Lowered, lower, merge_weights
from effine.export.model import GROUPS, Model
from effine.export.optimizers import Optimizer
from effine.export.precision import FP32, Precision, frozen_matrices, frozen_tables
from effine.runtime.manifest import Program, ProgramMethod, TensorSpec

KINDS = ("backbone", "train", "predict")
WEIGHT_FILE = "backbone.ptd"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Programs:
    """What lowering produced.

    Args:
        files: file name to content, for the three programs and the shared weights.
        programs: the manifest's description of each program.
        delegates: delegates of each method.
        portable: operators outside delegates, of each method.
    """

    files: dict[str, bytes]
    programs: dict[str, Program]
    delegates: dict[str, int]
    portable: dict[str, dict[str, int]]


def build_programs(
    model: Model,
    optimizer: Optimizer,
    batch: int,
    seqs: Sequence[int],
    precision: Precision = FP32,
) -> Programs:
    """Capture and lower backbone, train and predict at all shapes.

    Args:
        batch: batch size of training; backbone and predict exist at batch 1 as well.
        seqs: ascending sequence lengths.
        precision: of the frozen weights.
    """
    captured = capture_all(model, optimizer, batch, seqs)
    lowered = _lower_all(captured, _frozen_weights(model, precision))
    files = {f"{kind}.pte": lowered[kind].program for kind in KINDS}
    parts = [lowered[kind].weights for kind in KINDS]
    files[WEIGHT_FILE] = merge_weights(part for part in parts if part is not None)
    return Programs(
        files,
        {
            kind: Program(
                f"{kind}.pte", {name: _signature(kind, c, model) for name, c in methods.items()}
            )
            for kind, methods in captured.items()
        },
        {name: count for kind in KINDS for name, count in lowered[kind].delegates.items()},
        {name: ops for kind in KINDS for name, ops in lowered[kind].portable.items()},
    )


def capture_all(
    model: Model, optimizer: Optimizer, batch: int, seqs: Sequence[int]
) -> dict[str, dict[str, Captured]]:
    """Captured graphs by program kind and method name."""
    frozen = model.frozen()
    captured: dict[str, dict[str, Captured]] = {kind: {} for kind in KINDS}
    for size in sorted({1, batch}):
        for seq in seqs:
            tokens = _tokens(model, size, seq)
            made = capture(backbone_function(model), tokens, frozen)
            captured["backbone"][f"backbone_b{size}_s{seq}"] = made
    for seq in seqs if _features_vary(captured["backbone"], batch, seqs) else seqs[-1:]:
        for size in sorted({1, batch}):
            inputs = _predict_inputs(model, captured["backbone"], size, seq)
            names = list(captured["backbone"][f"backbone_b{size}_s{seq}"].outputs)
            made = capture(predict_function(model, names), inputs, frozen)
            captured["predict"][f"predict_b{size}_s{seq}"] = made
        inputs = _train_inputs(model, optimizer, captured["backbone"], batch, seq)
        made = capture(train_function(model, names, optimizer), inputs, frozen)
        captured["train"][f"train_b{batch}_s{seq}"] = made
    return captured


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


def state_tensors(model: Model, optimizer: Optimizer) -> dict[str, Tensor]:
    """The initial state in manifest order: parameters, then each moment of all parameters."""
    params = {name: p.detach() for name, p in model.trainable().items()}
    moments = {
        moment_name(name, moment): torch.zeros_like(tensor)
        for moment in optimizer.moments
        for name, tensor in params.items()
    }
    return params | moments


def _tokens(model: Model, batch: int, seq: int) -> Tensors:
    tokens = {
        name: torch.zeros(batch, seq, dtype=torch.int64) for name in model.encoder.token_inputs
    }
    return tokens | {MASK: torch.ones(batch, seq, dtype=torch.int64)}


def _features_vary(backbones: Mapping[str, Captured], batch: int, seqs: Sequence[int]) -> bool:
    shapes = [
        [tuple(t.shape) for t in backbones[f"backbone_b{batch}_s{seq}"].outputs.values()]
        for seq in seqs
    ]
    return any(shape != shapes[0] for shape in shapes)


def _predict_inputs(
    model: Model, backbones: Mapping[str, Captured], batch: int, seq: int
) -> Tensors:
    return {
        **backbones[f"backbone_b{batch}_s{seq}"].outputs,
        MASK: torch.ones(batch, seq, dtype=torch.int64),
        **{name: p.detach() for name, p in model.trainable().items()},
    }


def _train_inputs(
    model: Model, optimizer: Optimizer, backbones: Mapping[str, Captured], batch: int, seq: int
) -> Tensors:
    scalars = [f"learning_rate.{group}" for group in GROUPS] + ["step"]
    return {
        **backbones[f"backbone_b{batch}_s{seq}"].outputs,
        MASK: torch.ones(batch, seq, dtype=torch.int64),
        "labels": torch.zeros(batch, *model.task.label_shape, dtype=model.task.label_dtype),
        "example_weight": torch.ones(batch),
        "weight_sum": torch.full((1,), float(batch)),
        **{name: torch.ones(1) for name in scalars},
        **state_tensors(model, optimizer),
    }


def _signature(kind: str, captured: Captured, model: Model) -> ProgramMethod:
    def spec(name: str, tensor: Tensor) -> TensorSpec:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorSpec(name, _role(kind, name, model), tuple(tensor.shape), dtype)

    return ProgramMethod(
        tuple(spec(name, tensor) for name, tensor in captured.inputs.items()),
        tuple(spec(name, tensor) for name, tensor in captured.outputs.items()),
    )


def _role(kind: str, name: str, model: Model) -> str:
    if name in ("loss", "logits"):
        return name
    if name in model.encoder.token_inputs:
        return "token" if kind == "backbone" else "mask"
    if name == "labels":
        return "label"
    if name in ("example_weight", "weight_sum"):
        return "weight"
    if name == "step" or name.startswith("learning_rate."):
        return "scalar"
    if any(name == own or name.startswith(f"{own}.") for own in model.trainable()):
        return "update" if kind == "train" else "read"
    return "feature"


_JOBS: tuple[dict[str, dict[str, Captured]], FrozenWeights]


def _lower_all(
    captured: dict[str, dict[str, Captured]], weights: FrozenWeights
) -> dict[str, Lowered]:
    """Lower the programs side by side; forked workers see the graphs without copying them."""
    global _JOBS
    _JOBS = (captured, weights)
    if not sys.platform.startswith("linux"):
        return {kind: _lower_kind(kind) for kind in KINDS}
    by_effort = ("train", "predict", "backbone")
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return dict(zip(by_effort, pool.map(_lower_kind, by_effort), strict=True))


def _lower_kind(kind: str) -> Lowered:
    torch.set_num_threads(1)
    captured, weights = _JOBS
    return lower(captured[kind], weights)
