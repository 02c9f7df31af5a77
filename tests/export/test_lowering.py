"""Captured and rewritten graphs compute what the model computes, in few delegates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from artifacts import Exported
from effine.export.backbones import encoder_from
from effine.export.capture import MASK
from effine.export.lowering.passes import pack_with_bias, run_passes
from effine.export.lowering.target import FrozenWeights
from effine.export.lowering.xnnpack import lower
from effine.export.methods import known_methods, make_method
from effine.export.model import Model
from effine.export.optimizers import AdamW
from effine.export.phases import capture_all
from effine.export.profile import profile
from effine.export.tasks import make_task
from networks import tiny_network

BATCH, SEQ = 4, 8
METHODS = sorted(known_methods())


def model_of(name: str, architecture: str = "bert") -> Model:
    encoder = encoder_from(tiny_network(architecture))
    encoder.pooling = "mean"
    model = Model(encoder, make_method(name), make_task("classification", 3))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter += torch.randn_like(parameter) * 0.05
    return model


def eager_step(model: Model, inputs: dict[str, torch.Tensor], features: list[str]):
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": 0.01 if p.dim() > 1 else 0.0}
            for p in model.trainable().values()
        ],
        lr=1e-3,
    )
    logits = model({name: inputs[name] for name in features}, inputs[MASK])
    each = torch.nn.functional.cross_entropy(logits, inputs["labels"], reduction="none")
    each = model.penalised(each, inputs[MASK], inputs["example_weight"])
    loss = (each * inputs["example_weight"]).sum() / inputs["weight_sum"][0]
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.trainable().items()}
    optimizer.step()
    return loss.item(), grads


@pytest.mark.parametrize(
    ("name", "architecture"), [*((name, "bert") for name in METHODS), ("spartan", "t5")]
)
def test_the_rewritten_training_graph_equals_autograd(name: str, architecture: str) -> None:
    model = model_of(name, architecture)
    captured = capture_all(model, AdamW(), BATCH, [SEQ])
    train = captured["train"][f"{model.phases[0]}_b{BATCH}_s{SEQ}"]
    features = list(captured["backbone"][f"backbone_b{BATCH}_s{SEQ}"].outputs)
    torch.manual_seed(2)
    inputs = dict(train.inputs)
    inputs |= {key: torch.randn_like(inputs[key]) for key in features}
    inputs |= {key: torch.tensor([1e-3]) for key in inputs if key.startswith("learning_rate.")}
    inputs |= {
        "labels": torch.tensor([0, 2, 1, 1]),
        "example_weight": torch.tensor([1.0, 0.5, 2.0, 0.0]),
        "weight_sum": torch.tensor([3.5]),
    }
    mask = torch.ones(BATCH, SEQ, dtype=torch.int64)
    mask[2, 5:] = 0
    if MASK in inputs:
        inputs[MASK] = mask
    run_passes(train.graph)
    outputs = dict(zip(train.outputs, train.graph(*inputs.values()), strict=True))
    loss, grads = eager_step(model, inputs | {MASK: mask}, features)
    assert outputs["loss"].item() == pytest.approx(loss, rel=1e-5)
    total = sum(grad.norm() ** 2 for grad in grads.values()) ** 0.5
    for key, grad in grads.items():
        error = (outputs[f"{key}.exp_avg"] * 10 - grad).norm()
        assert error <= 1e-3 * max(grad.norm(), 1e-5 * total), key


def test_no_constant_is_a_weight_and_an_operand() -> None:
    """As many rows as features: ones that sum rows and ones that sum features look alike."""
    assert tiny_network("bert").config.hidden_size == BATCH * SEQ
    captured = capture_all(model_of("adapter"), AdamW(), BATCH, [SEQ])
    graph = captured["train"][f"train_b{BATCH}_s{SEQ}"].graph
    run_passes(graph)
    products = (torch.ops.aten.linear.default, torch.ops.aten.mm.default)
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            roles = {user.target in products and user.args[0] is not node for user in node.users}
            assert len(roles) == 1, node.target


def packed(graph: torch.fx.GraphModule, product: Any) -> set[tuple[bytes, ...]]:
    """By what XNNPACK's weight cache knows the constants that these products pack."""
    found = set()
    for node in graph.graph.nodes:
        if node.target is product and node.args[1].op == "get_attr":
            constants = [getattr(graph, constant.target) for constant in node.args[1:]]
            found.add(tuple(value.numpy().tobytes() for value in constants))
    return found


def test_no_constant_is_packed_in_two_ways_under_one_name() -> None:
    """SPARTAN's memories multiply with the same constants forward and backward, without bias."""
    captured = capture_all(model_of("spartan"), AdamW(), BATCH, [SEQ])
    graphs = [made.graph for kind in ("train", "predict") for made in captured[kind].values()]
    for graph in graphs:
        run_passes(graph)
        pack_with_bias(graph)
    forward, backward = (
        set.union(*(packed(graph, product) for graph in graphs))
        for product in (torch.ops.aten.linear.default, torch.ops.aten.mm.default)
    )
    assert {key[0] for key in forward} & {key[0] for key in backward}
    assert not forward & backward


@pytest.mark.parametrize("name", ["adapter", "spartan", "read"])
def test_no_product_is_left_outside_a_delegate(name: str) -> None:
    captured = capture_all(model_of(name), AdamW(), BATCH, [SEQ])
    lowered = lower("train", captured["train"], FrozenWeights(frozenset()))
    (portable,) = lowered.portable.values()
    slow = ("mm", "linear", "bmm", "gelu", "erf", "layer_norm", "softmax.", "where", "permute")
    left = [op for op in portable if any(part in op for part in slow)]
    assert [op for op in left if "_log_softmax" not in op] == []
    assert next(iter(lowered.delegates.values())) <= 12


@pytest.mark.parametrize(
    "architecture",
    [
        "t5",
        *(
            pytest.param(name, marks=pytest.mark.matrix)
            for name in ("albert", "modernbert", "mpnet")
        ),
    ],
)
def test_other_architectures_are_delegated_as_bert_is(
    artifact: Exported, architecture: str
) -> None:
    """Positions, distances and rotations cost no operators but a lookup."""
    own, bert = (
        {entry.method: entry for entry in profile(artifact("adapter", name), threads=1)}
        for name in (architecture, "bert")
    )
    for method, entry in own.items():
        assert entry.delegates <= bert[method].delegates
        outside = {operator.name for operator in entry.operators}
        more = outside - {operator.name for operator in bert[method].operators}
        counting = {"ne.Scalar_out", "cumsum.out", "mul.out", "add.out"}
        assert more <= {"embedding.out", *(counting if "backbone" in method else ())}


def test_what_follows_from_positions_is_computed_at_export() -> None:
    """Cosines and sines for local and for global layers, and a window: once for all layers."""
    encoder = encoder_from(tiny_network("modernbert", 4))
    model = Model(encoder, make_method("adapter"), make_task("classification", 3))
    predict = capture_all(model, AdamW(), 1, [SEQ])["predict"][f"predict_b1_s{SEQ}"]
    inputs = [torch.randn_like(t) if t.is_floating_point() else t for t in predict.inputs.values()]
    before = predict.graph(*inputs)[0]
    run_passes(predict.graph)
    left = {str(node.target).removeprefix("aten.") for node in predict.graph.graph.nodes}
    folded = ("arange", "cos.", "sin.", "pow", "gt.", "abs.")
    assert not [name for name in left if name.startswith(folded)]
    assert len([name for name in left if name.startswith("_positions")]) == 5
    assert torch.allclose(predict.graph(*inputs)[0], before, atol=1e-5)
