"""The memory model, and plans that fit into a bound."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from effine.export.backbones import encoder_from
from effine.export.budget import Plan, within
from effine.export.capture import capture
from effine.export.errors import ExportError
from effine.export.lowering.footprint import footprint
from effine.export.lowering.passes import run_passes
from effine.export.lowering.recompute import compute_again
from effine.export.memory import estimator
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.optimizers import AdamW
from effine.export.phases import capture_all
from effine.export.tasks import make_task
from effine.runtime.manifest_fields import MemoryInfo
from networks import tiny_network

MB = 1_000_000
WANTED = Plan("fp32", 8, 1, None, 64, 2)
Tensors = dict[str, Tensor]


def peak_of(plan: Plan) -> MemoryInfo:
    """In MB: 100 for the weights in fp32, and 10, or 6, a row of 64 tokens and block."""
    blocks = plan.layers - (plan.first_layer or 1) + 1
    weights = 100 if plan.precision == "fp32" else 25
    peak = weights + (6 if plan.recompute else 10) * plan.batch * blocks * plan.seq // 64
    return MemoryInfo(0, weights, 0, 0, peak * MB)


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        (260, {}),
        (259, {"precision": "int8"}),
        (185, {"precision": "int8"}),
        (184, {"precision": "int8", "recompute": True}),
        (120, {"precision": "int8", "recompute": True, "batch": 4, "accumulate": 2}),
        (37, {"precision": "int8", "recompute": True, "batch": 1, "accumulate": 8}),
        (
            31,
            {
                "precision": "int8",
                "recompute": True,
                "batch": 1,
                "accumulate": 8,
                "first_layer": 2,
            },
        ),
    ],
)
def test_the_mildest_change_that_fits_is_chosen(limit: int, changes: dict[str, object]) -> None:
    assert within(limit * MB, WANTED, frozenset(), peak_of) == dataclasses.replace(
        WANTED, **changes
    )


def test_what_the_user_has_set_stays_and_the_remedy_is_named() -> None:
    fixed = frozenset({"precision", "batch", "recompute"})
    chosen = within(180 * MB, WANTED, fixed, peak_of)
    assert chosen == dataclasses.replace(WANTED, first_layer=2)
    with pytest.raises(ExportError, match="needs 180MB; --backbone-precision int8 --recompute"):
        within(125 * MB, WANTED, fixed, peak_of)


def test_shorter_texts_are_named_but_never_chosen() -> None:
    plan = dataclasses.replace(WANTED, layers=0, seq=64, recompute=True)

    def peak(plan: Plan) -> MemoryInfo:
        return MemoryInfo(0, 0, 0, 0, plan.seq)

    with pytest.raises(ExportError, match="--seq 32 would need"):
        within(40, plan, frozenset(), peak)
    with pytest.raises(ExportError, match="no setting would fit"):
        within(1, plan, frozenset(), peak)


def test_activations_count_what_is_alive_at_the_same_time() -> None:
    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        wide = torch.relu(inputs["x"] @ frozen["w"].T)
        return {"y": (wide @ frozen["v"].T) * 2.0}

    inputs = {"x": torch.ones(4, 8)}
    frozen = {"w": torch.ones(32, 8), "v": torch.ones(8, 32)}
    graph = capture(function, inputs, frozen).graph
    run_passes(graph)
    found = footprint(graph)
    assert found.activations == 4 * (4 * 32 + 4 * 32)
    assert {(weight.name, weight.elements) for weight in found.weights} == {("w", 256), ("v", 256)}


def test_outputs_are_no_activations() -> None:
    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        new = inputs["x"] + 1.0
        return {"new": new, "y": torch.relu(new @ frozen["w"].T).sum(1, keepdim=True)}

    graph = capture(function, {"x": torch.ones(4, 1000)}, {"w": torch.ones(32, 1000)}).graph
    run_passes(graph)
    assert 4 * 4 * 32 <= footprint(graph).activations <= 2 * 4 * 4 * 32


def test_results_that_are_computed_again_are_not_kept_and_equal_to_the_bit() -> None:
    kept, again = (
        capture_all(build(None, 6), AdamW(), 4, [64], recompute=recompute)["train"]["train_b4_s64"]
        for recompute in (False, True)
    )
    for captured in (kept, again):
        run_passes(captured.graph)
    compute_again(again)
    before, after = (footprint(captured.graph) for captured in (kept, again))
    assert after.activations < 0.6 * before.activations
    assert after.weights == before.weights
    torch.manual_seed(0)
    given = [
        torch.rand_like(x) if x.is_floating_point() else torch.ones_like(x)
        for x in kept.inputs.values()
    ]
    assert all(map(torch.equal, kept.graph(*given), again.graph(*given)))


def build(first_layer: int | None, layers: int = 2) -> Model:
    encoder = encoder_from(tiny_network("bert", layers))
    encoder.pooling = "mean"
    return Model(encoder, make_method("adapter", {}, first_layer), make_task("classification", 3))


def test_estimates_follow_the_settings() -> None:
    estimate = estimator(build, AdamW())
    plan = Plan("fp32", 4, 1, None, 64, 2)
    found = estimate(plan)
    model = build(None)
    parameters = sum(p.numel() for p in model.trainable().values())
    assert found.state == 3 * 4 * parameters
    half = estimate(dataclasses.replace(plan, batch=2))
    assert 0.45 < half.activations / found.activations < 0.65
    assert estimate(dataclasses.replace(plan, precision="int8")).weights == found.weights // 4
    deep = estimator(lambda first_layer: build(first_layer, 6), AdamW())
    assert deep(dataclasses.replace(plan, recompute=True)).peak < deep(plan).peak
    higher = estimate(dataclasses.replace(plan, first_layer=2))
    assert higher.activations < 0.7 * found.activations
    assert higher.weights < found.weights
