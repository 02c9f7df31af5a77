"""Methods against what others wrote: peft, nn.GRU, a per-token gather, PyTorch itself."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from effine.export.backbones import encoder_from
from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.methods.adapter import Bottleneck
from effine.export.methods.read import DepthGRU
from effine.export.methods.spartan import Memory
from effine.export.model import Model
from effine.export.tasks import make_task
from networks import POSITIONS, tiny_network

METHODS = sorted(known_methods())


def model_of(name: str, options=None, first_layer=None, pooling="mean", layers=2) -> Model:
    encoder = encoder_from(tiny_network("bert", layers))
    encoder.pooling = pooling
    return Model(encoder, make_method(name, options, first_layer), make_task("classification", 3))


def tokens_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(1000, 20000, (4, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    tokens = {"input_ids": ids * mask, "token_type_ids": torch.zeros_like(ids)}
    return tokens | {"attention_mask": mask}


def pooled_backbone(pooling: str = "mean") -> torch.Tensor:
    encoder = encoder_from(tiny_network("bert"))
    encoder.pooling = pooling
    tokens = tokens_of(encoder)
    mask = tokens["attention_mask"]
    rows = encoder.run(encoder.embed(tokens), mask, 0, encoder.stages)[-1]
    return encoder.pool(rows, mask)


def represent(model: Model) -> torch.Tensor:
    tokens = tokens_of(model.encoder)
    features = model.features(tokens)
    return model.method.represent(model.encoder, features, tokens["attention_mask"])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("name", METHODS)
def test_features_of_padding_change_neither_loss_nor_gradients(name: str, pooling: str) -> None:
    """The cache drops them and gives zeros back."""
    model = model_of(name, pooling=pooling)
    torch.manual_seed(3)
    for parameter in model.trainable().values():
        parameter.data += 0.02 * torch.randn_like(parameter)
    tokens = tokens_of(model.encoder)
    mask = tokens["attention_mask"]
    features = model.features(tokens)
    if all(feature.dim() == 2 for feature in features.values()):
        pytest.skip(f"{name} with pooling {pooling} has features of whole samples")
    cut = {key: value * mask.unsqueeze(-1) for key, value in features.items()}
    assert all(not torch.equal(cut[key], features[key]) for key in features)
    results = []
    for given in (features, cut):
        loss = nn.functional.cross_entropy(model(given, mask), torch.tensor([0, 1, 2, 0]))
        results.append((loss, *torch.autograd.grad(loss, list(model.trainable().values()))))
    for whole, without in zip(*results, strict=True):
        torch.testing.assert_close(without, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("gates", "spartan")])
def test_an_untrained_method_is_the_backbone_bit_for_bit(name: str) -> None:
    assert torch.equal(represent(model_of(name)), pooled_backbone())


@pytest.mark.parametrize("placement", ["houlsby", "block"])
def test_untrained_adapters_are_the_backbone(placement: str) -> None:
    model = model_of("adapter", {"placement": placement})
    assert torch.equal(represent(model), pooled_backbone())


def test_spartan_with_zero_values_is_the_backbone_bit_for_bit() -> None:
    model = model_of("spartan")
    with torch.no_grad():
        for piece in model.encoder.pieces:
            piece.values.zero_()
    assert torch.equal(represent(model), pooled_backbone())


def gathered(memory: Memory, x: torch.Tensor, top: int, temperature: float) -> torch.Tensor:
    """SPARTAN one token at a time, fetching the children of the chosen parents only."""
    rows = []
    for token in x:
        scores = memory.parents @ token
        best = scores.topk(top)
        shares = torch.softmax(best.values, 0)
        total = token.clone()
        for share, parent in zip(shares, best.indices, strict=True):
            within = torch.softmax(memory.keys[parent] @ token / temperature, 0)
            total = total + share * (within @ memory.values[parent])
        rows.append(total)
    return torch.stack(rows)


def memory_of(top: int = 3) -> Memory:
    torch.manual_seed(3)
    memory = Memory(16, 6, 3, top, 1.6)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.normal_(std=0.5)
    return memory


def test_the_masked_form_equals_a_per_token_gather_with_gradients() -> None:
    memory, x = memory_of(), torch.randn(20, 16)
    masked, reference = memory(x), gathered(memory, x, 3, 1.6)
    assert torch.allclose(masked, reference, atol=1e-5)
    weight = torch.randn(20, 16)
    ours = torch.autograd.grad((masked * weight).sum(), list(memory.parameters()))
    theirs = torch.autograd.grad((reference * weight).sum(), list(memory.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_exactly_top_k_parents_are_kept() -> None:
    memory = memory_of()
    kept = memory.kept(torch.randn(50, 6))
    assert torch.equal(kept.sum(1), torch.full((50,), 3.0))
    assert set(kept.unique().tolist()) == {0.0, 1.0}


def test_permuting_parents_with_their_children_changes_nothing() -> None:
    memory, x = memory_of(), torch.randn(8, 16)
    before = memory(x)
    order = torch.randperm(6)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_(parameter[order].clone())
    assert torch.allclose(memory(x), before, atol=1e-5)


def test_keeping_all_parents_is_the_full_softmax() -> None:
    memory, x = memory_of(top=6), torch.randn(8, 16)
    shares = torch.softmax(x @ memory.parents.T, 1)
    within = torch.softmax(torch.einsum("nd,pcd->npc", x, memory.keys) / 1.6, 2)
    full = x + torch.einsum("np,npc,pcd->nd", shares, within, memory.values)
    assert torch.allclose(memory(x), full, atol=1e-5)


def gathered_load(memory: Memory, texts: list[torch.Tensor], top: int) -> torch.Tensor:
    """The squared mean weight of each parent over all tokens of some texts, averaged."""
    total, tokens = torch.zeros(len(memory.parents)), 0
    for token in (token for text in texts for token in text):
        best = (memory.parents @ token).topk(top)
        total = total.index_add(0, best.indices, torch.softmax(best.values, 0))
        tokens += 1
    return (total / tokens).square().mean()


def test_the_load_is_that_of_real_tokens_with_gradients() -> None:
    memory, rows = memory_of(), torch.randn(3, 7, 16, requires_grad=True)
    counted = torch.zeros(3, 7)
    counted[0, :7] = counted[1, :2] = 1.0
    ours = memory.load(rows.flatten(0, 1), counted)
    theirs = gathered_load(memory, [rows[0], rows[1, :2]], 3)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    learned = (rows, memory.parents)
    found = torch.autograd.grad(ours, learned)
    expected = torch.autograd.grad(theirs, learned)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7) and b.abs().max() > 1e-5


def test_load_balance_is_the_mean_over_memories_and_adds_to_the_loss() -> None:
    model = model_of("spartan", {"load_balance": 0.3})
    tokens = tokens_of(model.encoder)
    mask, weights = tokens["attention_mask"], torch.tensor([2.0, 0.5, 1.0, 0.0])
    logits = model(model.features(tokens), mask)
    plain = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]), reduction="none")
    losses = model.penalised(plain, mask, weights)
    stages = model.encoder.run(model.encoder.embed(tokens), mask, 0, model.encoder.stages)
    loads = []
    for layer, memory in enumerate(model.encoder.pieces):
        states = stages[2 * layer + 2].view(*mask.shape, -1)
        texts = [s[m.bool()] for s, m, w in zip(states, mask, weights, strict=True) if w]
        loads.append(gathered_load(memory, texts, 8))
    expected = plain + 0.3 * sum(loads) / len(loads)
    assert torch.allclose(losses, expected, rtol=1e-5)
    learned = model.trainable()
    found = torch.autograd.grad((losses * weights).sum(), list(learned.values()), retain_graph=True)
    wanted = torch.autograd.grad((expected * weights).sum(), list(learned.values()))
    for name, a, b in zip(learned, found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5), name


def test_a_tie_is_reported_by_its_margin() -> None:
    memory = memory_of()
    with torch.no_grad():
        memory.parents[1:] = memory.parents[0]
    assert memory.tie_margin(torch.randn(4, 16)).abs().max() == 0


@pytest.mark.parametrize("aggregate", ["mean", "last"])
def test_read_equals_nn_gru_with_gradients(aggregate: str) -> None:
    torch.manual_seed(4)
    read = DepthGRU(12, 5, 0.7, aggregate)
    with torch.no_grad():
        for parameter in read.parameters():
            parameter.normal_(std=0.5)
    states = [torch.randn(7, 12) for _ in range(4)]
    gru = nn.GRU(12, 5)
    with torch.no_grad():
        for side, modules in (("ih", read.input), ("hh", read.hidden)):
            weight = torch.cat([modules[gate].weight for gate in "rzn"])
            getattr(gru, f"weight_{side}_l0").copy_(weight)
            getattr(gru, f"bias_{side}_l0").copy_(torch.cat([modules[gate].bias for gate in "rzn"]))
    normed = torch.stack([nn.functional.rms_norm(s, (12,), read.norm, 1e-6) for s in states])
    walked, _ = gru(normed)
    summary = walked.mean(0) if aggregate == "mean" else walked[-1]
    expected = states[-1] + 0.7 * read.output(summary)
    assert torch.allclose(read(states), expected, atol=1e-5)
    shared = [read.norm, *read.output.parameters()]
    ours = torch.autograd.grad(read(states).square().sum(), [*shared, *read.parameters()])
    theirs = torch.autograd.grad(expected.square().sum(), [*shared, *gru.parameters()])
    found = dict(zip([name for name, _ in read.named_parameters()], ours[3:], strict=True))
    gates = [
        torch.cat([found[f"{side}.{gate}.{kind}"] for gate in "rzn"])
        for kind in ("weight", "bias")
        for side in ("input", "hidden")
    ]
    for a, b in zip([*ours[:3], *gates], theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_read_on_the_first_token_equals_read_on_all() -> None:
    both = [model_of("read", {"tokens": tokens}, pooling="cls") for tokens in ("all", "first")]
    for model in both:
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in model.encoder.side.parameters():
                parameter.normal_(std=0.1)
    first, second = (represent(model) for model in both)
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(first, pooled_backbone("cls"), atol=1e-3)


def sentence_vectors(network: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    states = network(**tokens).last_hidden_state
    mask = tokens["attention_mask"]
    return (states * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def assert_same_training(model: Model, expected: torch.Tensor, theirs: dict[str, torch.Tensor]):
    """Equal sentence vectors, and equal gradients of the parameters that `theirs` names."""
    vectors = represent(model)
    assert torch.allclose(vectors, expected, atol=1e-5)
    weight = torch.randn_like(vectors)
    (vectors * weight).sum().backward()
    (expected * weight).sum().backward()
    for name, parameter in theirs.items():
        own = model.get_parameter(name).grad
        assert torch.allclose(own, parameter.grad, rtol=1e-4, atol=1e-4), name


@pytest.mark.parametrize(
    ("targets", "modules"),
    [
        ("query,value", ["query", "value"]),
        ("query,key,value,output,up,down", ["query", "key", "value", "dense"]),
    ],
)
def test_lora_equals_peft_with_gradients(targets: str, modules: list[str]) -> None:
    peft = pytest.importorskip("peft", reason="peft is the reference for LoRA")
    model = model_of("lora", {"rank": 4, "alpha": 6, "targets": targets})
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=modules, exclude_modules=["pooler.dense"]
    )
    network = peft.get_peft_model(tiny_network("bert"), config)
    torch.manual_seed(6)
    weights = dict(network.named_parameters())
    theirs = {}
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            if name.startswith("head."):
                continue
            parameter.normal_(std=0.2)
            owner, _, leaf = name.removeprefix("encoder.").rpartition(".")
            hub = model.encoder.hub_names[owner]
            theirs[name] = weights[f"base_model.model.{hub}.{leaf}.default.weight"]
            theirs[name].copy_(parameter)
    assert len(theirs) == sum(parameter.requires_grad for parameter in weights.values())
    expected = sentence_vectors(network, tokens_of(model.encoder))
    assert_same_training(model, expected, theirs)


@pytest.mark.parametrize("method", ["bitfit", "spartan"])
def test_biases_and_norms_train_as_in_transformers(method: str) -> None:
    model = model_of(method)
    if method == "spartan":
        with torch.no_grad():
            for piece in model.encoder.pieces:
                piece.values.zero_()
    network = tiny_network("bert")
    hub = {**model.encoder.hub_names, "embedding_norm": "embeddings.LayerNorm"}
    theirs = {}
    for name in model.trainable():
        owner, _, leaf = name.removeprefix("encoder.").rpartition(".")
        if owner in hub:
            theirs[name] = network.get_parameter(f"{hub[owner]}.{leaf}")
    assert len(theirs) == {"bitfit": 17, "spartan": 10}[method]
    assert_same_training(model, sentence_vectors(network, tokens_of(model.encoder)), theirs)


@pytest.mark.parametrize("placement", ["block", "pfeiffer", "houlsby"])
def test_adapters_equal_hooks_in_transformers(placement: str) -> None:
    model = model_of("adapter", {"placement": placement, "width": 5})
    adapters = [m for m in model.encoder.modules() if isinstance(m, Bottleneck)]
    torch.manual_seed(8)
    with torch.no_grad():
        for adapter in adapters:
            for parameter in adapter.parameters():
                parameter.normal_(std=0.2)
    network, left = tiny_network("bert"), iter(copy.deepcopy(adapters))

    def adapted(adapter: nn.Module, z: torch.Tensor) -> torch.Tensor:
        return adapter.up(adapter.down(z).clamp(min=0))

    def add(module: nn.Module) -> None:
        adapter = next(left)
        module.register_forward_hook(lambda _, inputs, out: out + adapted(adapter, out))

    def norm_again(norm: nn.Module) -> None:
        adapter, again = next(left), copy.deepcopy(norm)
        norm.register_forward_hook(lambda _, inputs, out: again(adapted(adapter, out) + inputs[0]))

    for layer in network.encoder.layer:
        if placement == "block":
            add(layer)
        elif placement == "pfeiffer":
            norm_again(layer.output.LayerNorm)
        else:
            add(layer.attention.output.dense)
            add(layer.output.dense)
    assert next(left, None) is None
    expected = sentence_vectors(network, tokens_of(model.encoder))
    assert torch.allclose(represent(model), expected, atol=1e-5)
    assert not torch.allclose(expected, pooled_backbone(), atol=1e-2)


@pytest.mark.parametrize("name", METHODS)
def test_frozen_parameters_get_no_gradient(name: str) -> None:
    model = model_of(name)
    tokens = tokens_of(model.encoder)
    model(model.features(tokens), tokens["attention_mask"]).sum().backward()
    trained = set(model.trainable())
    assert {n for n, p in model.named_parameters() if p.grad is not None} <= trained
    assert {"head.weight", "head.bias"} <= trained


LAYERS = 2 * (4 * 33 * 32 + 33 * 64 + 65 * 32 + 2 * 2 * 32)
COUNTS = {
    "head": 0,
    "bitfit": 2 * (4 * 32 + 64 + 32 + 2 * 32) + 32,
    "adapter": 2 * (2 * 64 * 32 + 64 + 32),
    "lora": 2 * 2 * (8 * 32 + 32 * 8),
    "full": LAYERS + 2 * 32,
    "autofreeze": LAYERS + 2 * 32,
    "far": LAYERS + 2 * 32,
    "gates": LAYERS + 2 * 32 + 2 * POSITIONS,
    "spartan": 2 * (16 + 48 + 48) * 32 + (2 * 2 + 1) * 64,
    "read": 3 * (32 * 256 + 256 * 256 + 2 * 256) + 257 * 32 + 32,
}


@pytest.mark.parametrize("name", METHODS)
def test_trainable_counts_follow_the_formula(name: str) -> None:
    pieces = [p for n, p in model_of(name).trainable().items() if not n.startswith("head.")]
    assert sum(p.numel() for p in pieces) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "first_layer", "cut"),
    [
        ("head", None, 5),
        ("read", None, 5),
        ("bitfit", None, 0),
        ("bitfit", 2, 3),
        ("adapter", None, 2),
        ("adapter", 2, 4),
        ("lora", None, 1),
        ("spartan", None, 0),
        ("spartan", 1, 1),
        ("spartan", 2, 3),
        ("full", None, 0),
        ("full", 2, 3),
        ("autofreeze", None, 0),
        ("autofreeze", 2, 3),
    ],
)
def test_the_cut_lies_just_below_the_first_trained_stage(name, first_layer, cut) -> None:
    assert model_of(name, first_layer=first_layer).method.cut == cut


@pytest.mark.parametrize("name", METHODS)
def test_cutting_does_not_change_the_result(name: str) -> None:
    model = model_of(name)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter += torch.randn_like(parameter) * 0.05
    tokens = tokens_of(model.encoder)
    mask = tokens["attention_mask"]
    logits = model(model.features(tokens), mask)
    if model.encoder.side is None and name != "head":
        rows = model.encoder.run(model.encoder.embed(tokens), mask, 0, model.encoder.stages)[-1]
        assert torch.equal(logits, model.head(model.encoder.pool(rows, mask)))
    assert logits.isfinite().all()


def test_the_same_seed_gives_the_same_pieces() -> None:
    first, second = model_of("spartan").trainable(), model_of("spartan").trainable()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("magic", {}, "not a method; known: adapter, autofreeze, bitfit, far"),
        ("spartan", {"parent": 3}, "no such option; known: parents, children"),
        ("spartan", {"parents": "many"}, "expected a value of type int"),
        ("spartan", {"load_balance": -1}, "load_balance: can't be less than 0"),
        ("adapter", {"placement": "top"}, "choose from block, pfeiffer, houlsby"),
        ("spartan", {"norms": "perhaps"}, "expected a value of type bool"),
    ],
)
def test_wrong_settings_are_explained(name: str, options: dict, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        make_method(name, options)


def test_wrong_combinations_are_explained() -> None:
    with pytest.raises(ExportError, match="must be from 1 to parents=16"):
        model_of("spartan", {"top": 20})
    with pytest.raises(ExportError, match="needs --pooling cls"):
        model_of("read", {"tokens": "first"})
    with pytest.raises(ExportError, match="'keys' is not a layer"):
        model_of("lora", {"targets": "query,keys"})
    with pytest.raises(ExportError, match="no pieces inside the layers"):
        make_method("read", {}, 2)


def test_options_come_from_toml(tmp_path: Path) -> None:
    from effine.export.methods import read_options

    file = tmp_path / "options.toml"
    file.write_text("parents = 4\ntop = 2\n")
    assert make_method("spartan", read_options(file)).options.parents == 4
