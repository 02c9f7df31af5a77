"""The methods of an artifact's programs: a phase at each shape, captured, with its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from effine.export.capture import (
    MASK,
    Captured,
    accumulate_function,
    apply_function,
    backbone_function,
    capture,
    gradient_name,
    moment_name,
    predict_function,
    train_function,
)
from effine.export.model import GROUPS, Model
from effine.export.optimizers import Optimizer
from effine.runtime.manifest import ProgramMethod, TensorSpec

KINDS = ("backbone", "train", "predict")

Tensors = dict[str, Tensor]


def capture_all(
    model: Model, optimizer: Optimizer, batch: int, seqs: Sequence[int], accumulate: bool = False
) -> dict[str, dict[str, Captured]]:
    """Captured graphs by program kind and method name; see `build_programs`."""
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
        steps = {"train": train_function(model, names, optimizer)}
        if accumulate:
            steps["accumulate"] = accumulate_function(model, names)
        for phase, function in steps.items():
            made = capture(function, inputs, frozen)
            captured["train"][f"{phase}_b{batch}_s{seq}"] = made
    if accumulate:
        made = capture(apply_function(model, optimizer), inputs, frozen)
        captured["train"][f"apply_b{batch}_s{seqs[-1]}"] = made
    return captured


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
        "labels": torch.zeros(batch, *model.task.label_shape(seq), dtype=model.task.label_dtype),
        "example_weight": torch.ones(batch),
        "weight_sum": torch.full((1,), float(batch)),
        **{name: torch.ones(1) for name in scalars},
        **state_tensors(model, optimizer),
        **{gradient_name(name): torch.zeros_like(p) for name, p in model.trainable().items()},
    }


def signature(method: str, captured: Captured, model: Model) -> ProgramMethod:
    """The manifest's description of a captured method."""
    phase = method.partition("_")[0]
    gradients = {gradient_name(name) for name in model.trainable()}

    def spec(name: str, tensor: Tensor) -> TensorSpec:
        dtype = str(tensor.dtype).removeprefix("torch.")
        role = "gradient" if name in gradients else _role(phase, name, model)
        return TensorSpec(name, role, tuple(tensor.shape), dtype)

    return ProgramMethod(
        tuple(spec(name, tensor) for name, tensor in captured.inputs.items()),
        tuple(spec(name, tensor) for name, tensor in captured.outputs.items()),
    )


def _role(phase: str, name: str, model: Model) -> str:
    if name in ("loss", "logits"):
        return name
    if name in model.encoder.token_inputs:
        return "token" if phase == "backbone" else "mask"
    if name == "labels":
        return "label"
    if name in ("example_weight", "weight_sum"):
        return "weight"
    if name == "step" or name.startswith("learning_rate."):
        return "scalar"
    if any(name == own or name.startswith(f"{own}.") for own in model.trainable()):
        return "update" if phase in ("train", "apply") else "read"
    return "feature"
