"""Backbones against transformers, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, GPT2Config, PreTrainedModel

from networks import tiny_network
from effine.export.backbones import Backbone, encoder_from, load_backbone, packaged_minilm
from effine.export.errors import ExportError


def batch(with_types: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(1000, 20000, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    tokens = {"input_ids": ids * mask}
    if with_types:
        types = torch.zeros_like(ids)
        types[:, 5:] = 1
        tokens["token_type_ids"] = types * mask
    return tokens | {"attention_mask": mask}


def assert_layers_equal(encoder, network: PreTrainedModel) -> None:
    tokens = batch("token_type_ids" in encoder.token_inputs)
    mask = tokens["attention_mask"]
    with torch.no_grad():
        expected = network(**tokens, output_hidden_states=True).hidden_states
        states = encoder.run(encoder.embed(tokens), mask, 0, encoder.stages)
    ours = [states[1], *states[3::2]]
    assert len(ours) == len(expected)
    for state, reference in zip(ours, expected, strict=True):
        difference = (state.view_as(reference) - reference).abs()[mask.bool()]
        assert difference.max() < 1e-5


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_every_layer_equals_transformers(architecture: str) -> None:
    network = tiny_network(architecture)
    assert_layers_equal(encoder_from(network), network)


def test_minilm_equals_transformers(minilm: Backbone) -> None:
    network = AutoModel.from_pretrained(packaged_minilm()).eval()
    assert_layers_equal(minilm.encoder, network)


def test_padding_does_not_change_valid_tokens(minilm: Backbone) -> None:
    encoder = minilm.encoder
    tokens = batch(True)
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


def test_the_weight_hash_follows_the_weights(tiny: dict[str, Path]) -> None:
    assert load_backbone(str(tiny["bert"])).sha256 == load_backbone(str(tiny["bert"])).sha256
    assert load_backbone(str(tiny["bert"])).sha256 != load_backbone("minilm").sha256


def test_unknown_architecture_lists_the_known_ones(tmp_path: Path) -> None:
    GPT2Config(n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match="'gpt2' is not known; known: bert, distilbert"):
        load_backbone(str(tmp_path))


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--model .*nothing: not a directory"):
        load_backbone(str(tmp_path / "nothing"))
