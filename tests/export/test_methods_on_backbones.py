"""Every method on every architecture, in eager PyTorch, and what either can't do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts import Exported, intents
from commands import good
from effine.export.backbones import encoder_from
from effine.export.bench.rivals.network import RivalNetwork, check_rival
from effine.export.capture import MASK
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.methods.gates import TokenGate
from effine.export.methods.spartan import Memory
from effine.export.model import Model
from effine.export.tasks import make_task
from effine.runtime.trainer import Trainer
from networks import ARCHITECTURES, NEW, tiny_network

REFUSED = [
    ("bitfit", "modernbert"),
    ("bitfit", "t5"),
    ("autofreeze", "albert"),
    ("gates", "modernbert"),
    ("gates", "mpnet"),
    ("gates", "t5"),
]
PAIRS = [
    (method, architecture)
    for architecture in NEW
    for method in known_methods()
    if (method, architecture) not in REFUSED
]


def model_of(
    method: str,
    architecture: str,
    options: dict[str, Any] | None = None,
    first_layer: int | None = None,
    layers: int = 2,
    settings: dict[str, Any] | None = None,
) -> Model:
    encoder = encoder_from(tiny_network(architecture, layers, **(settings or {})))
    encoder.pooling = "mean"
    chosen = make_method(method, options, first_layer)
    return Model(encoder, chosen, make_task("classification", 3))


def tokens_of(model: Model) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(5, model.encoder.embeddings.words.num_embeddings, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    made = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), MASK: mask}
    return {name: made[name] for name in model.encoder.token_inputs}


def represent(model: Model) -> torch.Tensor:
    tokens = tokens_of(model)
    return model.method.represent(model.encoder, model.features(tokens), tokens[MASK])


def disturb(model: Model) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter += torch.randn_like(parameter) * 0.05


@pytest.mark.parametrize(("method", "architecture"), PAIRS)
def test_a_method_starts_from_the_backbone_and_trains_its_own(
    method: str, architecture: str
) -> None:
    model = model_of(method, architecture)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Memory):
                module.values.zero_()
            elif isinstance(module, TokenGate):
                module.values.fill_(1.0)
    untouched = model_of("head", architecture)
    assert torch.equal(represent(model), represent(untouched))
    disturb(model)
    tokens = tokens_of(model)
    mask = tokens[MASK]
    logits = model(model.features(tokens), mask)
    if model.encoder.side is None:
        rows = model.encoder.run(model.encoder.embed(tokens), mask, 0, model.encoder.stages)[-1]
        assert torch.equal(logits, model.head(model.encoder.pool(rows, mask)))
    logits.square().sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == set(model.trainable())


@pytest.mark.parametrize(
    ("architecture", "targets", "modules"),
    [
        ("albert", "query,value", ["query", "value"]),
        (
            "albert",
            "query,key,value,output,up,down",
            ["query", "key", "value", "dense", "ffn", "ffn_output"],
        ),
        ("t5", "query,value,output,up", ["q", "v", "o", "wi"]),
    ],
)
def test_lora_equals_peft_on_shared_layers_and_others(
    architecture: str, targets: str, modules: list[str]
) -> None:
    peft = pytest.importorskip("peft", reason="peft is the reference for LoRA")
    model = model_of("lora", architecture, {"rank": 4, "alpha": 6, "targets": targets}, layers=3)
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=modules)
    network = peft.get_peft_model(tiny_network(architecture, 3), config)
    disturb(model)
    weights = dict(network.named_parameters())
    theirs = {}
    for name, parameter in model.trainable().items():
        owner, _, leaf = name.removeprefix("encoder.").rpartition(".")
        if leaf.startswith("lora"):
            theirs[name] = weights[
                f"base_model.model.{model.encoder.hub_names[owner]}.{leaf}.default.weight"
            ]
            theirs[name].data.copy_(parameter.data)
    assert len(theirs) == sum(p.requires_grad for p in weights.values())
    tokens = tokens_of(model)
    states, mask = network(**tokens).last_hidden_state, tokens[MASK].unsqueeze(2)
    expected = (states * mask).sum(1) / mask.sum(1)
    assert torch.allclose(represent(model), expected, atol=1e-5)
    represent(model).square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in theirs.items():
        own = model.get_parameter(name).grad
        assert torch.allclose(own, parameter.grad, rtol=1e-4, atol=1e-4), name


@pytest.mark.parametrize("method", ["bitfit", "spartan"])
def test_shared_biases_and_norms_train_as_in_transformers(method: str) -> None:
    model = model_of(method, "albert", {"parents": 2, "top": 1} if method == "spartan" else {})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Memory):
                module.values.zero_()
    network = tiny_network("albert")
    hub = {
        **model.encoder.hub_names,
        "embedding_norm.norm": "embeddings.LayerNorm",
        "embedding_norm.projection": "encoder.embedding_hidden_mapping_in",
    }
    owners = {n: n.removeprefix("encoder.").rpartition(".")[0] for n in model.trainable()}
    theirs = {n: f"{hub[o]}.{n.rpartition('.')[2]}" for n, o in owners.items() if o in hub}
    assert len(theirs) == {"bitfit": 4 + 2 + 2 + 2, "spartan": 2 * 3}[method]
    tokens = tokens_of(model)
    mask = tokens[MASK].unsqueeze(2)
    expected = (network(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
    expected.square().sum().backward()
    represent(model).square().sum().backward()
    for own, hub_name in theirs.items():
        reference = network.get_parameter(hub_name).grad
        assert torch.allclose(model.get_parameter(own).grad, reference, rtol=1e-4, atol=1e-4), own


def test_pieces_behind_shared_layers_are_one_for_each_depth() -> None:
    model = model_of("adapter", "albert", layers=4)
    downs = [name for name in model.trainable() if name.endswith("down.weight")]
    assert len(downs) == 4
    inside = model_of("adapter", "albert", {"placement": "houlsby"}, layers=4)
    assert sum(name.endswith("down.weight") for name in inside.trainable()) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_tables_train_if_they_are_to(architecture: str) -> None:
    model = model_of("full", architecture, {"embeddings": "train"})
    assert not [name for name, p in model.named_parameters() if not p.requires_grad]
    features = model.features(tokens_of(model))
    assert MASK not in features and all(f.dtype == torch.int64 for f in features.values())
    assert torch.equal(represent(model), represent(model_of("head", architecture)))


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "albert"])
def test_every_cut_is_the_same_function(architecture: str) -> None:
    model = model_of("autofreeze", architecture, layers=4)
    disturb(model)
    tokens = tokens_of(model)
    whole = represent(model)
    for frozen, phase in enumerate(model.phases):
        model.enter(phase)
        assert phase == f"cut{frozen}" and model.method.layers_below == frozen
        features = model.features(tokens)
        assert torch.equal(model.method.represent(model.encoder, features, tokens[MASK]), whole)
        layers = {n.split(".")[2] for n in model.trainable() if n.startswith("encoder.layers.")}
        assert sorted(map(int, layers)) == list(range(frozen, 4))


def test_deep_encoders_have_every_second_cut() -> None:
    assert model_of("autofreeze", "bert", layers=8).phases == ("cut0", "cut2", "cut4", "cut6")
    assert model_of("autofreeze", "bert", first_layer=3, layers=4).phases == ("cut2", "cut3")


@pytest.mark.parametrize(
    ("method", "architecture", "options", "first_layer", "message"),
    [
        ("bitfit", "modernbert", {}, None, "'modernbert' has no biases to train; use adapter"),
        ("bitfit", "t5", {}, None, "'t5' has no biases to train; use adapter"),
        ("adapter", "modernbert", {"placement": "pfeiffer"}, None, "use block or houlsby"),
        ("adapter", "t5", {"placement": "pfeiffer"}, None, "use block or houlsby"),
        ("lora", "albert", {}, 2, "layers of 'albert' share their weights, so 'lora' can't"),
        ("bitfit", "albert", {}, 2, "leave it out"),
        ("full", "albert", {}, 2, "leave it out"),
        ("full", "bert", {"embeddings": "train"}, 2, "trains all layers; leave one out"),
        ("autofreeze", "albert", {}, None, "layers of 'albert' share .* one by one; use full"),
        ("spartan", "albert", {}, 2, "leave it out"),
        ("lora", "bert", {"targets": "gate"}, None, "'gate' is not a layer; choose from query"),
    ],
)
def test_what_a_method_can_not_do_is_explained(
    method: str, architecture: str, options: dict[str, Any], first_layer: int, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        model_of(method, architecture, options, first_layer)


def test_the_weights_of_shared_layers_are_stored_once(artifact: Exported) -> None:
    frozen = encoder_from(tiny_network("albert")).parameters()
    size = artifact("adapter", "albert").manifest.files["backbone.ptd"].size
    assert size < 1.1 * sum(parameter.numel() * 4 for parameter in frozen)


def test_pieces_behind_blocks_may_start_at_any_shared_layer() -> None:
    assert model_of("adapter", "albert", first_layer=2).method.cut == 4
    assert model_of("spartan", "albert", {"norms": False}, 2).method.cut == 4


@pytest.mark.parametrize(
    ("architecture", "settings"), [("modernbert", {}), ("t5", {"feed_forward_proj": "gated-gelu"})]
)
def test_lora_reaches_every_projection_of_a_gated_block(
    architecture: str, settings: dict[str, Any]
) -> None:
    options = {"targets": "query,key,value,output,up,gate,down"}
    model = model_of("lora", architecture, options, settings=settings)
    assert len(model.trainable()) == 2 * 7 * 2 + 2


def test_lora_without_a_peft_form_is_extracted_in_effines(
    artifact: Exported, tiny: dict[str, Path], tmp_path: Path
) -> None:
    exported = artifact("lora", "modernbert")
    trainer = Trainer(exported, threads=1)
    trainer.fit(intents(), epochs=1)
    trainer.save(tmp_path / "a.ckpt")
    command = ("extract", tmp_path / "a.ckpt", "--artifact", exported.path)
    good(*command, "--out", tmp_path / "out", "--model", tiny["modernbert"])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"effine_config.json", "head.safetensors", "pieces.safetensors"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_benchmarks_have_a_rival_or_say_that_they_have_none(
    architecture: str, tiny: dict[str, Path]
) -> None:
    model = model_of("spartan", architecture)
    disturb(model)
    if architecture in ("albert", "electra", "modernbert", "mpnet", "t5"):
        with pytest.raises(ExportError, match=f"bench: no rival for '{architecture}'"):
            RivalNetwork(model, str(tiny[architecture]))
    else:
        check_rival(RivalNetwork(model, str(tiny[architecture])), model, tokens_of(model))
