"""The methods of an artifact's programs: every phase at each shape, captured, with its inputs."""

from __future__ import annotations

import dataclasses
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
from effine.export.model import GROUPS, Model, group_of
from effine.export.optimizers import Optimizer
from effine.runtime.manifest_fields import ProgramMethod, TensorSpec
from effine.runtime.phases import StateTensor, statistic_name

KINDS = ("backbone", "train", "predict")

Tensors = dict[str, Tensor]
Graphs = dict[str, dict[str, Captured]]


def capture_all(
    model: Model,
    optimizer: Optimizer,
    batch: int,
    seqs: Sequence[int],
    accumulate: bool = False,
    recompute: bool = False,
) -> Graphs:
    """Captured graphs by program kind and method name; see `build_programs`."""
    captured: Graphs = {kind: {} for kind in KINDS}
    first_cut = model.method.cut
    for phase in model.phases:
        model.enter(phase)
        first = phase == model.phases[0]
        own = "" if first else f"{phase}."
        backbone = "backbone" if model.method.cut == first_cut else f"{own}backbone"
        if backbone.startswith(own) and not model.method.takes_tokens:
            captured["backbone"] |= _backbones(model, backbone, batch, seqs)
        features = _Features(model, backbone, captured["backbone"])
        varying = seqs if features.vary(batch, seqs) else seqs[-1:]
        captured["predict"] |= _predicts(model, features, f"{own}predict", batch, varying)
        steps = {phase: train_function(model, features.names, optimizer)}
        if accumulate:
            steps[f"{own}accumulate"] = accumulate_function(model, features.names)
        for seq in varying:
            inputs = _train_inputs(model, optimizer, features, batch, seq)
            for name, function in steps.items():
                made = capture(function, inputs, model.frozen())
                made = dataclasses.replace(made, recompute=recompute)
                captured["train"][f"{name}_b{batch}_s{seq}"] = made
        if accumulate:
            made = capture(apply_function(model, optimizer), inputs, model.frozen())
            captured["train"][f"{own}apply_b{batch}_s{seqs[-1]}"] = made
    model.enter(model.phases[0])
    return captured


def state_tensors(model: Model, optimizer: Optimizer) -> Tensors:
    """The state as the present phase has it: parameters, moments of those that train, statistics.

    Moments and statistics are zero, parameters those of the model.
    """
    moments = {
        moment_name(name, moment): torch.zeros_like(p.detach())
        for moment in optimizer.moments
        for name, p in model.trainable().items()
    }
    statistics = {
        statistic_name(name): torch.zeros_like(model.trainable()[name].detach())
        for name in model.watched()
    }
    return {name: p.detach() for name, p in model.learned().items()} | moments | statistics


def state_layout(model: Model, optimizer: Optimizer) -> tuple[StateTensor, ...]:
    """All tensors that the state has in any phase, in manifest order."""
    layout: dict[str, StateTensor] = {}
    for phase in model.phases:
        model.enter(phase)
        watched = {statistic_name(name): group for name, group in model.watched().items()}
        for name, tensor in state_tensors(model, optimizer).items():
            role = "parameter" if name in model.learned() else "moment"
            role = "statistic" if name in watched else role
            group = watched.get(name) or group_of(name)
            layout.setdefault(name, StateTensor(name, tuple(tensor.shape), "float32", role, group))
    model.enter(model.phases[0])
    return tuple(layout.values())


class _Features:
    """What the train and predict methods of a phase get of a backbone.

    Args:
        backbone: what the names of the backbone's methods start with.
        captured: the backbone methods by name.
    """

    def __init__(self, model: Model, backbone: str, captured: Mapping[str, Captured]) -> None:
        self._model = model
        self._backbone = backbone
        self._captured = captured
        tokens = [name for name in model.encoder.token_inputs if name != MASK]
        made = next((c for n, c in captured.items() if n.startswith(f"{backbone}_")), None)
        self.names = tokens if made is None else list(made.outputs)

    def at(self, batch: int, seq: int) -> Tensors:
        """Features and mask of a batch."""
        tokens = _tokens(self._model, batch, seq)
        if self._model.method.takes_tokens:
            return tokens
        return {**self._captured[f"{self._backbone}_b{batch}_s{seq}"].outputs, MASK: tokens[MASK]}

    def vary(self, batch: int, seqs: Sequence[int]) -> bool:
        """Whether their shapes depend on the sequence length."""
        shapes = [[tuple(self.at(batch, s)[n].shape) for n in self.names] for s in seqs]
        return any(shape != shapes[0] for shape in shapes)


def _backbones(model: Model, name: str, batch: int, seqs: Sequence[int]) -> dict[str, Captured]:
    params = {n: p.detach() for n, p in model.learned().items()}
    return {
        f"{name}_b{size}_s{seq}": capture(
            backbone_function(model), _tokens(model, size, seq) | params, model.frozen()
        )
        for size in sorted({1, batch})
        for seq in seqs
    }


def _predicts(
    model: Model, features: _Features, name: str, batch: int, seqs: Sequence[int]
) -> dict[str, Captured]:
    params = {n: p.detach() for n, p in model.learned().items()}
    function = predict_function(model, features.names)
    return {
        f"{name}_b{size}_s{seq}": capture(function, features.at(size, seq) | params, model.frozen())
        for seq in seqs
        for size in sorted({1, batch})
    }


def _tokens(model: Model, batch: int, seq: int) -> Tensors:
    tokens = {
        name: torch.zeros(batch, seq, dtype=torch.int64) for name in model.encoder.token_inputs
    }
    return tokens | {MASK: torch.ones(batch, seq, dtype=torch.int64)}


def _train_inputs(
    model: Model, optimizer: Optimizer, features: _Features, batch: int, seq: int
) -> Tensors:
    scalars = [f"learning_rate.{group}" for group in GROUPS] + ["step"]
    return {
        **features.at(batch, seq),
        "labels": torch.zeros(batch, *model.task.label_shape(seq), dtype=model.task.label_dtype),
        "example_weight": torch.ones(batch),
        "weight_sum": torch.full((1,), float(batch)),
        **{name: torch.ones(1) for name in scalars},
        **state_tensors(model, optimizer),
        **{gradient_name(name): torch.zeros_like(p) for name, p in model.trainable().items()},
    }


def signature(
    method: str, captured: Captured, model: Model, state: Mapping[str, StateTensor]
) -> ProgramMethod:
    """The manifest's description of a captured method.

    Args:
        state: the whole state by name.
    """
    kind = method.partition("_")[0].rpartition(".")[2]

    def role(name: str) -> str:
        if name in state:
            if state[name].role == "statistic":
                return "statistic"
            return "update" if name in captured.outputs else "read"
        return _role(kind, name, model, state)

    def spec(name: str, tensor: Tensor) -> TensorSpec:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorSpec(name, role(name), tuple(tensor.shape), dtype)

    return ProgramMethod(
        tuple(spec(name, tensor) for name, tensor in captured.inputs.items()),
        tuple(spec(name, tensor) for name, tensor in captured.outputs.items()),
    )


def _role(kind: str, name: str, model: Model, state: Mapping[str, StateTensor]) -> str:
    if name in ("loss", "logits"):
        return name
    if name == MASK and kind != "backbone":
        return "mask"
    if name in model.encoder.token_inputs:
        return "token"
    if name == "labels":
        return "label"
    if name in ("example_weight", "weight_sum"):
        return "weight"
    if name == "step" or name.startswith("learning_rate."):
        return "scalar"
    if any(name == gradient_name(own) for own in state):
        return "gradient"
    return "feature"
