"""Token gates against forms written apart from them: sorting and scattering, and one text at a
time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effine.export.backbones import encoder_from
from effine.export.bench.rivals.network import RivalNetwork
from effine.export.capture import MASK
from effine.export.encoder import ALL_TOKENS
from effine.export.errors import ExportError
from effine.export.layers import Shape
from effine.export.methods import make_method
from effine.export.methods.gates import TokenGate
from effine.export.model import Model
from effine.export.tasks import make_task
from effine.runtime.policies.gates import count, rungs
from networks import tiny_network

PLAIN = {"learning": 0}
LENGTHS = (9, 5, 2)
LABELS = torch.tensor([0, 1, 2])


def model_of(
    options: dict[str, Any],
    method: str = "gates",
    architecture: str = "bert",
    pooling: str = "mean",
    first_layer: int | None = None,
    layers: int = 3,
) -> Model:
    encoder = encoder_from(tiny_network(architecture, layers))
    encoder.pooling = pooling
    chosen = make_method(method, options, first_layer)
    return Model(encoder, chosen, make_task("classification", 3))


def tokens_of(model: Model) -> dict[str, Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(5, 300, (len(LENGTHS), max(LENGTHS)))
    mask = torch.tensor([[int(i < n) for i in range(max(LENGTHS))] for n in LENGTHS])
    made = {"input_ids": ids, "token_type_ids": ids * 0, MASK: mask}
    return {name: made[name] for name in model.encoder.token_inputs}


def represent(model: Model) -> Tensor:
    tokens = tokens_of(model)
    return model.method.represent(model.encoder, model.features(tokens), tokens[MASK])


def losses(model: Model) -> Tensor:
    tokens = tokens_of(model)
    logits = model(model.features(tokens), tokens[MASK])
    each = nn.functional.cross_entropy(logits, LABELS, reduction="none")
    return model.penalised(each, tokens[MASK], torch.ones(len(LENGTHS)))


def gradients(loss: Tensor, model: Model) -> tuple[Tensor, ...]:
    found = torch.autograd.grad(loss, list(model.trainable().values()), allow_unused=True)
    return tuple(torch.zeros(()) if g is None else g for g in found)


def set_gates(model: Model, values: Callable[[int], Tensor]) -> None:
    with torch.no_grad():
        for gate in model.encoder.gates.values():
            gate.values.copy_(values(len(gate.values)))


def disturb(model: Model) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.learned().values():
            parameter += torch.randn_like(parameter) * 0.05


@pytest.mark.parametrize("architecture", ["bert", "albert", "roberta"])
def test_open_gates_and_all_tokens_are_the_backbone(architecture: str) -> None:
    backbone = represent(model_of({}, "head", architecture))
    kept = model_of(PLAIN | {"keep": "1.0"}, architecture=architecture)
    assert torch.equal(represent(kept), backbone)
    gated = model_of({}, architecture=architecture)
    assert len(gated.encoder.gates) == 3 and not torch.equal(represent(gated), backbone)
    set_gates(gated, torch.ones)
    assert torch.equal(represent(gated), backbone)
    gated.enter("keep100")
    torch.testing.assert_close(represent(gated), backbone, rtol=1e-5, atol=1e-6)


class ByScatter(nn.Module):
    """Soft gates by sorting significance and scattering the gates to the tokens."""

    def __init__(self, gate: TokenGate) -> None:
        super().__init__()
        self.values = gate.values

    def forward(
        self, rows: Tensor, weights: Tensor, mask: Tensor, whole: int
    ) -> tuple[Tensor, Tensor]:
        batch, seq = mask.shape
        each = weights.detach().view(batch, -1, seq, seq) * mask[:, None, :, None]
        received = each.sum(2).mean(1) - torch.diagonal(each, dim1=2, dim2=3).mean(1)
        received = received.masked_fill(mask == 0, -torch.inf)
        received[:, 0] = torch.inf
        order = received.topk(seq).indices
        gates = torch.zeros(batch, seq).scatter(1, order, self.values[:seq].expand(batch, -1))
        return rows * gates.view(-1, 1), mask


@pytest.mark.parametrize("pieces", ["full", "adapter"])
def test_ranked_gates_equal_sorting_and_scattering_with_gradients(pieces: str) -> None:
    bimodal, sparsity = 0.3, 0.02
    model = model_of({"pieces": pieces, "bimodal": bimodal, "sparsity": sparsity})
    disturb(model)
    set_gates(model, torch.rand)
    ranked = losses(model)
    found = gradients(ranked.sum(), model)
    reference = model_of({"pieces": pieces, "bimodal": 0, "sparsity": 0})
    reference.load_state_dict(model.state_dict())
    for name, gate in reference.encoder.gates.items():
        reference.encoder.gates[name] = ByScatter(gate)
    term: Any = 0.0
    for name, gate in reference.encoder.gates.items():
        g = gate.values[: max(LENGTHS)]
        term = term + bimodal * (g * (1 - g)).sum() + sparsity * (int(name) + 1) * g.sum()
    reference.method._learns = False
    expected = losses(reference) + term
    torch.testing.assert_close(ranked, expected, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(found, gradients(expected.sum(), reference), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def one_text(model: Model, features: Tensor, shares: tuple[float, ...], whole: int) -> Tensor:
    """The vector of one text without padding, its tokens dropped one layer after the other."""
    encoder, x = model.encoder, features
    for stage in range(model.method.cut, encoder.stages):
        block = encoder.stage(stage)
        if stage % 2 == 0:
            x = block(x)
            continue
        bias = torch.zeros(encoder.heads, 1, len(x))
        x, weights = block.attend(x, bias, Shape(1, len(x)))
        gate = encoder.gates[str(stage // 2)] if str(stage // 2) in encoder.gates else None
        if gate is not None:
            probabilities = weights.detach().mean(0)
            received = [
                float(sum(probabilities[q, t] for q in range(len(x)) if q != t))
                for t in range(len(x))
            ]
            others = sorted(range(1, len(x)), key=lambda t: -received[t])
            share = shares[list(encoder.gates).index(str(stage // 2))]
            kept = [0, *others][: count(share, whole)]
            x = torch.stack([x[t] for t in kept])
            if gate.values is not None:
                x = torch.stack([gate.values[r] * row for r, row in enumerate(x)])
        x = block.feed(x)
    return x[0] if encoder.pooling == "cls" else x.mean(0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("learning", [0, 50])
@pytest.mark.parametrize("pieces", ["full", "adapter", "lora", "spartan"])
def test_dropping_equals_dropping_from_each_text_alone(
    pieces: str, learning: int, pooling: str
) -> None:
    keep = "0.8:0.5" if pieces == "adapter" else "0.8:0.5:0.3"
    model = model_of({"pieces": pieces, "learning": learning, "keep": keep}, pooling=pooling)
    disturb(model)
    if learning:
        set_gates(model, lambda size: 0.5 + 0.5 * torch.rand(size))
        model.enter(model.phases[1])
    shares = next(iter(rungs(keep, len(model.encoder.gates)).values()))
    tokens = tokens_of(model)
    hidden = model.features(tokens)["hidden"]
    vectors = [
        one_text(model, row[:length], shares, max(LENGTHS))
        for row, length in zip(hidden, LENGTHS, strict=True)
    ]
    expected = nn.functional.cross_entropy(model.head(torch.stack(vectors)), LABELS)
    mean = losses(model).mean()
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients(mean, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["attention", "random", "first"])
def test_the_first_token_is_first_and_padding_last(order: str) -> None:
    model = model_of(PLAIN | {"keep": "0.5", "order": order})
    gate = model.encoder.gates["1"]
    torch.manual_seed(0)
    mask = tokens_of(model)[MASK]
    weights = torch.softmax(torch.randn(2 * len(LENGTHS), 9, 9), -1)
    ranks = gate.ranks(weights, mask)
    assert ranks.sort().values.tolist() == [list(range(9))] * len(LENGTHS)
    assert not ranks[:, 0].any()
    assert all(ranks[row, :n].max() == n - 1 for row, n in enumerate(LENGTHS))
    if order == "first":
        assert ranks[0].tolist() == list(range(9))
    if order == "random":
        assert torch.equal(ranks[0].argsort()[1:], gate.priority[1:9].argsort(descending=True) + 1)


def test_equal_tokens_keep_their_order_and_count_as_ties() -> None:
    gate = TokenGate(2, 9, learned=False, priority=None)
    gate.share = 0.5
    weights, mask = torch.full((2, 9, 9), 1 / 9), torch.ones(1, 9, dtype=torch.int64)
    assert gate.ranks(weights, mask).tolist() == [list(range(9))]
    rows = torch.arange(18.0).view(9, 2)
    kept, left = gate(rows, weights, mask, 9)
    assert torch.equal(kept, rows[:5]) and left.tolist() == [[1.0] * 5]
    assert gate.tie_margin(rows, weights, mask, 9).tolist() == [[0.0]]
    weights[:, :, 4] *= 2
    assert gate.tie_margin(rows, weights, mask, 9).abs().max() < 1e-6
    gate.share = 0.25
    assert gate.tie_margin(rows, weights, mask, 9).item() > 0.1
    padded = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0, 0]])
    assert gate.tie_margin(rows, weights, padded, 9).isinf().all()


@pytest.mark.parametrize("pieces", ["adapter", "bitfit", "full", "lora", "spartan"])
def test_what_trains_is_what_the_pieces_train(pieces: str) -> None:
    plain = model_of(PLAIN | {"pieces": pieces, "keep": "0.5"})
    assert list(plain.trainable()) == list(model_of({}, pieces).trainable())
    assert plain.method.cut == model_of({}, pieces).method.cut
    learning = model_of({"pieces": pieces, "keep": "0.5"})
    assert learning.phases == ("gates", "keep50")
    more = set(learning.trainable()) - set(plain.trainable())
    assert more == {f"encoder.gates.{layer}.values" for layer in learning.encoder.gates}
    learning.enter("keep50")
    assert list(learning.trainable()) == list(plain.trainable())
    assert set(learning.learned()) - set(learning.trainable()) == more


def test_pieces_may_have_options() -> None:
    model = model_of(PLAIN | {"pieces": "lora rank=4 targets=query,key", "keep": "0.5"})
    shapes = {n: tuple(p.shape) for n, p in model.trainable().items() if n.endswith("lora_A")}
    assert set(shapes.values()) == {(4, 32)} and len(shapes) == 6
    assert any(".key." in name for name in shapes)
    everything = model_of(PLAIN | {"pieces": "full embeddings=train", "keep": "0.5"})
    assert everything.method.takes_tokens and losses(everything).isfinite().all()


def test_there_is_no_rival(tiny: dict[str, Path]) -> None:
    with pytest.raises(ExportError, match="no rival drops tokens"):
        RivalNetwork(model_of({}), str(tiny["bert"]))


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({}, {"pooling": ALL_TOKENS}, "drops tokens, but the task needs all of them"),
        ({}, {"architecture": "modernbert"}, "'modernbert' tell tokens by their positions"),
        ({}, {"architecture": "mpnet"}, "'mpnet' tell tokens by their positions"),
        ({"pieces": "adapter"}, {"first_layer": 3}, "no layer that could drop tokens"),
        ({"pieces": "read"}, {}, "pieces=read: choose from adapter, bitfit, full, lora, spartan$"),
        ({"pieces": "gates"}, {}, "pieces=gates: choose from"),
        ({"pieces": ""}, {}, "pieces=: choose from"),
        ({"pieces": "lora rank=x"}, {}, "rank=x: expected a value of type int"),
        ({"keep": "half"}, {}, "keep=half: 'half' is no share such as 0.5"),
        ({"keep": "0.5,1.5"}, {}, "1.5 is not above 0 and up to 1"),
        ({"keep": "0.9:0.5"}, {}, "0.9:0.5 has 2 shares for 3 layers"),
        ({"keep": "0.5:0.6:0.4"}, {}, "can't keep more than the one below it"),
        ({"keep": "0.5,0.501"}, {}, "two rungs keep 50 percent"),
        ({"learning": 101}, {}, "learning: must be from 0 to 100"),
        ({"bimodal": -1}, {}, "bimodal, sparsity: can't be less than 0"),
        ({"order": "last"}, {}, "choose from attention, random, first"),
    ],
)
def test_what_gates_can_not_do_is_explained(
    options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        model_of(options, **changes)
