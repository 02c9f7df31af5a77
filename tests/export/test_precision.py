"""Quantised frozen weights: the pass over the graph against the emulation in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from artifacts import Exported, intents
from effine.export.backbones import encoder_from
from effine.export.capture import capture
from effine.export.errors import ExportError
from effine.export.lowering.passes import run_passes
from effine.export.lowering.quantise import per_channel, per_group, quantise
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.precision import (
    choose_precision,
    emulated,
    frozen_matrices,
    frozen_tables,
)
from effine.export.tasks import make_task
from networks import tiny_network

ROWS, INPUTS, OUTPUTS = 5, 64, 48


def model_of(method: str) -> Model:
    encoder = encoder_from(tiny_network("bert"))
    return Model(encoder, make_method(method), make_task("classification", 3))


def tokens() -> dict[str, Tensor]:
    torch.manual_seed(3)
    ids = torch.randint(5, 1000, (2, 8))
    return {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "attention_mask": torch.ones_like(ids),
    }


def test_int8_weights_are_within_half_a_step() -> None:
    matrix = torch.randn(OUTPUTS, INPUTS) * torch.logspace(-6, 2, OUTPUTS).unsqueeze(1)
    matrix[0] = 0
    values, scale = per_channel(matrix)
    error = (values * scale.unsqueeze(1) - matrix).abs()
    assert values.dtype == torch.int8 and int(values.min()) >= -127
    assert (error <= 0.5001 * scale.unsqueeze(1)).all()
    assert (values[0] == 0).all()


def test_int4_scales_are_better_than_the_covering_ones() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(OUTPUTS, INPUTS)
    values, scale = per_group(matrix)
    assert scale.shape == (OUTPUTS, INPUTS // 32) and (scale.bfloat16().float() == scale).all()
    assert int(values.min()) >= -8 and int(values.max()) <= 7

    def error(scale: Tensor) -> float:
        groups = matrix.unflatten(1, (-1, 32))
        rounded = (groups / scale.unsqueeze(2)).round().clamp(-8, 7) * scale.unsqueeze(2)
        return float((rounded - groups).square().sum())

    covering = matrix.unflatten(1, (-1, 32)).abs().amax(dim=2) / 7
    assert error(scale) < 0.9 * error(covering)


def test_one_layer_equals_the_emulation_forward_and_backward() -> None:
    """With one rounding there is nothing to amplify, so the limits are tight."""
    model = model_of("head")
    layer = model.encoder.layers[0].attention.query
    name = "encoder.layers.0.attention.query.weight"
    x, grad = torch.randn(ROWS, 32), torch.randn(ROWS, 32)

    def function(inputs: dict[str, Tensor], frozen: dict[str, Tensor]) -> dict[str, Tensor]:
        product = nn.functional.linear(inputs["x"], frozen[name], frozen["bias"])
        return {"y": product, "dx": inputs["grad"] @ frozen[name]}

    frozen = {name: layer.weight.detach(), "bias": layer.bias.detach()}
    captured = capture(function, {"x": x, "grad": grad}, frozen)
    run_passes(captured.graph)
    quantise(captured.graph, {name.replace(".", "_"): None}, ())
    y, dx = captured.graph(x, grad)

    leaf = x.clone().requires_grad_()
    with emulated(model, choose_precision("int8", model, [])):
        expected = layer(leaf)
        expected.backward(grad)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(dx, leaf.grad, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(y, plain, rtol=1e-5, atol=1e-6)
    assert torch.allclose(y, plain, atol=0.1 * float(plain.abs().max()))


def test_word_embeddings_are_looked_up_in_int8() -> None:
    model = model_of("head")
    (name,) = frozen_tables(model)
    table = model.encoder.embeddings.words
    ids = torch.tensor([[3, 999, 30521]])

    def function(inputs: dict[str, Tensor], frozen: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": nn.functional.embedding(inputs["ids"], frozen[name])}

    captured = capture(function, {"ids": ids}, {name: table.weight.detach()})
    quantise(captured.graph, {}, {name.replace(".", "_")})
    held = dict(captured.graph.named_buffers())
    assert [b.dtype for b in held.values() if b.numel() > len(table.weight)] == [torch.int8]
    with emulated(model, choose_precision("int8", model, [])):
        assert torch.equal(captured.graph(ids)[0], table(ids))


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_emulation_leaves_no_trace(precision: str) -> None:
    model = model_of("head")
    before = model.features(tokens())["pooled"]
    chosen = choose_precision(precision, model, [tokens()])
    with emulated(model, chosen):
        inside = model.features(tokens())["pooled"]
    assert not torch.equal(inside, before)
    assert torch.nn.functional.cosine_similarity(inside, before).min() > 0.9
    assert torch.equal(model.features(tokens())["pooled"], before)


def test_corrected_biases_bring_int4_closer() -> None:
    model = model_of("head")
    before = model.features(tokens())["pooled"]
    chosen = choose_precision("int4", model, [tokens()])

    def error(biases: dict[str, Tensor]) -> float:
        with emulated(model, type(chosen)("int4", chosen.weights, biases)):
            return float((model.features(tokens())["pooled"] - before).norm())

    assert error(dict(chosen.biases)) < error({})


def test_only_frozen_layers_are_quantised() -> None:
    assert len(frozen_matrices(model_of("head"))) == 2 * 6
    lora = frozen_matrices(model_of("lora"))
    assert len(lora) == 2 * 6 and not any("lora_" in name for name in lora)
    assert not any("adapter" in name for name in frozen_matrices(model_of("adapter")))


def test_int4_is_refused_where_gradients_pass() -> None:
    with pytest.raises(ExportError, match="use int8, or a method that trains above the encoder"):
        choose_precision("int4", model_of("adapter"), [])


def test_quantised_artifacts_are_smaller(artifact: Exported) -> None:
    sizes = {
        precision: sum(e.size for n, e in manifest.files.items() if n.startswith("backbone"))
        for precision in ("fp32", "int8", "int4")
        for manifest in [artifact("head", precision=precision).manifest]
    }
    assert sizes["int8"] < 0.4 * sizes["fp32"] and sizes["int4"] < sizes["int8"]


@pytest.mark.matrix
def test_int8_artifacts_share_their_weights(artifact: Exported) -> None:
    weights = [(artifact(m, precision="int8").path / "backbone.ptd") for m in ("lora", "adapter")]
    first, second = (path.read_bytes() for path in weights)
    assert first == second


def test_predictions_of_an_int8_artifact_are_close(artifact: Exported) -> None:
    from effine.runtime.trainer import Trainer

    texts = [row["text"] for row in intents()]
    outputs = [
        np.array([list(p.probabilities.values()) for p in Trainer(a, threads=1).predict(texts)])
        for a in (artifact("spartan"), artifact("spartan", precision="int8"))
    ]
    assert np.abs(outputs[0] - outputs[1]).max() < 0.1


def test_an_unknown_precision_is_refused_by_the_command(tmp_path: Path) -> None:
    from commands import refused

    arguments = ("export", "--backbone-precision", "int2", "--out", tmp_path / "x.effine")
    assert "int2" in refused(*arguments)
