"""How much memory training takes: predicted from captured graphs.

The native runner's peak is that of its worst stage: a program's weights are loaded, when
the file's pages and the packed copies exist at once, or it trains. What a stage takes is
counted, with a factor for copies and for what the runtime adds. The factors were fitted to
measured peaks of all methods and precisions; `effine bench memory` prints measured beside
predicted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from effine.export.budget import Plan
from effine.export.capture import Captured
from effine.export.lowering.footprint import Footprint, footprint
from effine.export.lowering.passes import run_passes
from effine.export.lowering.recompute import compute_again
from effine.export.model import Model
from effine.export.optimizers import Optimizer
from effine.export.phases import capture_all, state_tensors
from effine.runtime.manifest_fields import MemoryInfo

_PROCESS = 12.8e6
_ACTIVATIONS, _PACKED, _STATE, _FEATURES = 1.04, 1.06, 3.3, 3.6
_BYTES = {"fp32": 4.0, "int8": 1.0, "int4": 0.5}


def predict_memory(
    model: Model,
    optimizer: Optimizer,
    batch: int,
    precision: str,
    captured: Mapping[str, Mapping[str, Captured]],
    footprints: Mapping[str, Footprint],
    target: str = "xnnpack",
) -> MemoryInfo:
    """The memory of a training run.

    Args:
        batch: rows of a training batch.
        precision: of the frozen weights.
        captured: program methods by kind and name.
        footprints: of the methods by name.
        target: what the programs are for; the peak of xnnpack alone is known.
    """
    train = f"{model.phases[0]}_b{batch}_"
    backbone = f"backbone_b{1 if model.method.layers_below else batch}_"
    trained, frozen = (
        [found for name, found in footprints.items() if name.startswith(prefix)]
        for prefix in (train, backbone)
    )
    weights = {weight for found in trained for weight in found.weights}
    further = {weight for found in frozen for weight in found.weights} - weights
    packed = [int(_BYTES[precision] * sum(w.elements for w in ws)) for ws in (weights, further)]
    live = [max((found.activations for found in side), default=0) for side in (trained, frozen)]
    features = [_size(made.outputs.values()) for made in captured["backbone"].values()]
    parts = {
        "activations": sum(live),
        "weights": sum(packed),
        "state": _size(state_tensors(model, optimizer).values()),
        "features": max(features, default=0),
    }
    peak = _peak(packed, live, parts["state"], parts["features"])
    again = any(made.recompute for made in captured["train"].values())
    return MemoryInfo(**parts, peak=int(peak) if target == "xnnpack" else 0, recompute=again)


def estimator(
    build: Callable[[int | None], Model], optimizer: Optimizer
) -> Callable[[Plan], MemoryInfo]:
    """A function that predicts a plan's memory without lowering.

    Args:
        build: makes the model for a first layer with pieces.
    """

    @functools.cache
    def counted(first_layer: int | None, batch: int, seq: int, recompute: bool) -> Any:
        model = build(first_layer)
        captured = capture_all(model, optimizer, batch, [seq], recompute=recompute)
        footprints = {}
        for kind in ("backbone", "train"):
            for name, made in captured[kind].items():
                run_passes(made.graph)
                if made.recompute:
                    compute_again(made)
                footprints[name] = footprint(made.graph)
        return model, captured, footprints

    def estimate(plan: Plan) -> MemoryInfo:
        model, captured, footprints = counted(
            plan.first_layer, plan.batch, plan.seq, plan.recompute
        )
        return predict_memory(model, optimizer, plan.batch, plan.precision, captured, footprints)

    return estimate


def _peak(packed: Sequence[int], live: Sequence[int], state: int, features: int) -> float:
    """Of the stages in the runner's order: train is loaded and run before the backbone is.

    Args:
        packed: bytes of the weights of train, and of those that backbone adds.
        live: bytes of the activations of both.
    """
    weights, further = (_PACKED * size for size in packed)
    training, computing = (_ACTIVATIONS * size for size in live)
    stages = (
        2 * weights,
        weights + training + 2 * further,
        weights + training + further + computing + _FEATURES * features,
    )
    return _PROCESS + _STATE * state + max(stages)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
