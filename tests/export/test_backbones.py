"""Backbones against transformers, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, GPT2Config, PreTrainedModel

from effine.export.backbones import Backbone, encoder_from, load_backbone, packaged_minilm
from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.positions import Buckets
from networks import ARCHITECTURES, HIDDEN, tiny_network


def batch(network: PreTrainedModel, with_types: bool) -> dict[str, torch.Tensor]:
    """Three texts of 12, 7 and 3 tokens, of two types where the model has them."""
    torch.manual_seed(1)
    ids = torch.randint(5, network.config.vocab_size, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    tokens = {"input_ids": torch.where(mask.bool(), ids, network.config.pad_token_id)}
    if with_types:
        types = torch.zeros_like(ids)
        types[:, 5:] = 1
        tokens["token_type_ids"] = types * mask
    return tokens | {"attention_mask": mask}


def assert_layers_equal(encoder: Encoder, network: PreTrainedModel) -> None:
    tokens = batch(network, "token_type_ids" in encoder.token_inputs)
    assert_states_equal(encoder, network, tokens)


def assert_states_equal(
    encoder: Encoder, network: PreTrainedModel, tokens: dict[str, torch.Tensor]
) -> None:
    mask = tokens["attention_mask"]
    with torch.no_grad():
        expected = network(**tokens, output_hidden_states=True).hidden_states
        states = encoder.run(encoder.embed(tokens), mask, 0, encoder.stages)
    ours = [states[1], *states[3::2]]
    assert len(ours) == len(expected)
    for state, reference in zip(ours, expected, strict=True):
        difference = (state.view_as(reference) - reference).abs()[mask.bool()]
        assert difference.max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_equals_transformers(architecture: str) -> None:
    network = tiny_network(architecture, 3)
    assert_layers_equal(encoder_from(network), network)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("electra", {"embedding_size": HIDDEN}),
        ("albert", {"num_hidden_groups": 2, "inner_group_num": 1, "hidden_act": "gelu_new"}),
        ("albert", {"num_hidden_groups": 1, "inner_group_num": 2}),
        ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True}),
        ("modernbert", {"local_attention": 2, "hidden_activation": "silu"}),
        ("modernbert", {"local_attention": 64}),
        ("roberta", {"hidden_act": "relu"}),
        ("t5", {"feed_forward_proj": "gated-gelu"}),
        ("t5", {"feed_forward_proj": "gated-silu", "relative_attention_max_distance": 9}),
    ],
)
def test_variants_equal_transformers(architecture: str, settings: dict[str, Any]) -> None:
    network = tiny_network(architecture, 4, **settings)
    assert_layers_equal(encoder_from(network), network)


@pytest.mark.parametrize("architecture", ["roberta", "mpnet"])
def test_a_padding_token_within_a_text_takes_no_position(architecture: str) -> None:
    network = tiny_network(architecture)
    tokens = batch(network, False)
    tokens["input_ids"][:, 2] = network.config.pad_token_id
    encoder = encoder_from(network)
    assert_states_equal(encoder, network, tokens)
    assert encoder.max_positions == network.config.max_position_embeddings - 2


def test_distances_fall_into_the_buckets_of_transformers() -> None:
    theirs = tiny_network("mpnet").encoder
    own = Buckets(32, 2)
    own.scores.weight = theirs.relative_attention_bias.weight
    for seq in (1, 5, 64, 512):
        expected = theirs.compute_position_bias(torch.zeros(1, seq))[0]
        assert torch.equal(own(seq), expected)


def test_shared_layers_are_stored_once() -> None:
    shallow, deep = (encoder_from(tiny_network("albert", layers)) for layers in (2, 5))
    assert (shallow.depth, deep.depth) == (2, 5)
    assert len(list(shallow.parameters())) == len(list(deep.parameters()))
    assert set(shallow.hub_names) == set(deep.hub_names)


@pytest.mark.parametrize(
    ("architecture", "settings", "message"),
    [
        ("roberta", {"hidden_act": "mish"}, "activation 'mish' is not known; known: gelu"),
        (
            "modernbert",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
            "rotary positions of type 'linear' are not known",
        ),
    ],
)
def test_what_is_not_supported_is_explained(
    architecture: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        encoder_from(tiny_network(architecture, **settings))


def test_minilm_equals_transformers(minilm: Backbone) -> None:
    network = AutoModel.from_pretrained(packaged_minilm()).eval()
    assert_layers_equal(minilm.encoder, network)


def test_padding_does_not_change_valid_tokens(minilm: Backbone) -> None:
    encoder = minilm.encoder
    tokens = batch(AutoModel.from_pretrained(packaged_minilm()), True)
    row = {name: tensor[1:2] for name, tensor in tokens.items()}
    alone = {name: tensor[:, :7] for name, tensor in row.items()}
    with torch.no_grad():
        padded = encoder.run(encoder.embed(row), row["attention_mask"], 0, encoder.stages)[-1]
        cut = encoder.run(encoder.embed(alone), alone["attention_mask"], 0, encoder.stages)[-1]
    assert torch.allclose(padded[:7], cut, atol=1e-5)


def test_mean_pooling_ignores_padding(minilm: Backbone) -> None:
    encoder = minilm.encoder
    mask = torch.tensor([[1, 1, 0]])
    rows = torch.randn(3, encoder.hidden)
    assert torch.allclose(encoder.pool(rows, mask)[0], rows[:2].mean(0), atol=1e-6)


def test_a_local_directory_loads(tiny: dict[str, Path]) -> None:
    loaded = load_backbone(str(tiny["distilbert"]), "mean")
    assert loaded.encoder.architecture == "distilbert"
    assert loaded.encoder.pooling == "mean"
    assert loaded.name == "tiny-distilbert"
    assert loaded.tokenizer.encode("hello").ids[0] == 101


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_directory_gives_its_tokenizer_and_inputs(
    tiny: dict[str, Path], architecture: str
) -> None:
    loaded = load_backbone(str(tiny[architecture]))
    assert loaded.encoder.architecture == architecture
    assert loaded.pad_id == tiny_network(architecture).config.pad_token_id
    types = architecture in ("bert", "electra", "albert")
    assert ("token_type_ids" in loaded.encoder.token_inputs) == types
    one, two = loaded.tokenizer.encode("lamp on"), loaded.tokenizer.encode("lamp", "on")
    assert one.ids[0] == two.ids[0] and one.ids[-1] == two.ids[-1]
    assert len(two.ids) > len(one.ids)


def test_the_weight_hash_follows_the_weights(tiny: dict[str, Path]) -> None:
    assert load_backbone(str(tiny["bert"])).sha256 == load_backbone(str(tiny["bert"])).sha256
    assert load_backbone(str(tiny["bert"])).sha256 != load_backbone("minilm").sha256


def test_unknown_architecture_lists_the_known_ones(tmp_path: Path) -> None:
    GPT2Config(n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match="'gpt2' is not known; known: albert, bert, distilbert, "):
        load_backbone(str(tmp_path))


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--model .*nothing: not a directory"):
        load_backbone(str(tmp_path / "nothing"))
