"""One step of T5's decoder against transformers, and what is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import T5EncoderModel, T5ForConditionalGeneration

from artifacts import Exported, intents
from commands import refused, write
from eager import GraphEngine, Graphs, eager_artifact
from effine.export.backbones import encoder_from, load_backbone
from effine.export.capture import MASK
from effine.export.encoder import ONE_STEP
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.methods.read import DepthGRU
from effine.export.model import Model
from effine.export.precision import frozen_matrices
from effine.export.tasks import make_task
from effine.runtime.artifact import Artifact
from effine.runtime.engines import make_engine
from effine.runtime.parity import check_engine
from effine.runtime.trainer import Trainer
from networks import HIDDEN, VOCABULARY, tiny_t5

LABELS = ["alarm", "lamp", "music"]


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(5, VOCABULARY, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, 2:] = 0
    return {"input_ids": ids, MASK: mask}


def model_of(method: str, **options: Any) -> Model:
    encoder = encoder_from(tiny_t5(T5ForConditionalGeneration))
    return Model(encoder, make_method(method, options), make_task("classification", 3))


@pytest.mark.parametrize(
    "settings", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}]
)
def test_one_step_equals_transformers(settings: dict[str, Any]) -> None:
    network = tiny_t5(T5ForConditionalGeneration, **settings)
    encoder = encoder_from(network)
    tokens = batch()
    with torch.no_grad():
        rows = encoder.run(encoder.embed(tokens), tokens[MASK], 0, encoder.stages)[-1]
        states = encoder.steps(rows, tokens[MASK])
        start = torch.full((3, 1), network.config.decoder_start_token_id)
        expected = network(**tokens, decoder_input_ids=start, output_hidden_states=True)
    assert len(states) == network.config.num_decoder_layers == 3
    for state, reference in zip(states, expected.decoder_hidden_states[1:], strict=True):
        assert torch.allclose(state, reference[:, 0], atol=1e-5)
    logits = states[-1] @ encoder.decoder.rows([7, 30, 7]).T
    assert torch.allclose(logits, expected.logits[:, 0, [7, 30, 7]], atol=1e-5)


REFUSED = ("bitfit", "gates")


@pytest.mark.parametrize("method", [name for name in known_methods() if name not in REFUSED])
def test_the_decoder_is_frozen_and_passes_gradients_on(method: str) -> None:
    model = model_of(method)
    tokens = batch()
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter += torch.randn_like(parameter) * 0.05
    model(model.features(tokens), tokens[MASK]).square().sum().backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert moved == set(model.trainable())
    decoding = {n for n in model.trainable() if n.startswith("encoder.decoder.")}
    assert decoding == {n for n in decoding if n.startswith("encoder.decoder.side.")}
    assert bool(decoding) == (method == "read")


def test_two_side_networks_correct_the_step() -> None:
    model = model_of("read", width=8, scale=0.5)
    encoder, tokens = model.encoder, batch()
    features = model.features(tokens)
    shapes = {name: tuple(feature.shape) for name, feature in features.items()}
    assert shapes == {
        **{f"state_{i}": (3, 9, HIDDEN) for i in (1, 2)},
        **{f"step_{i}": (3, HIDDEN) for i in (1, 2, 3)},
    }
    untrained = model.method.represent(encoder, features, tokens[MASK])
    assert torch.equal(untrained, features["step_3"])
    sides: list[DepthGRU] = [encoder.side, encoder.decoder.side]
    for side in sides:
        torch.nn.init.normal_(side.output.weight)
    each = encoder.side([features[f"state_{i}"].flatten(0, 1) for i in (1, 2)]).view(3, 9, -1)
    corrections = (each - features["state_2"]) * tokens[MASK].unsqueeze(2)
    expected = encoder.decoder.side([features[f"step_{i}"] for i in (1, 2, 3)])
    expected = expected + corrections.sum(1) / tokens[MASK].sum(1, keepdim=True)
    found = model.method.represent(encoder, features, tokens[MASK])
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, untrained, atol=1e-2)


def test_a_decoder_is_quantised_with_the_encoder() -> None:
    names = {name.rpartition("layers.")[0] for name in frozen_matrices(model_of("read"))}
    assert names == {"encoder.", "encoder.decoder."}


@pytest.fixture(scope="module")
def exported(
    tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, Graphs]:
    out = tmp_path_factory.mktemp("decoder") / "read.effine"
    words = out.with_name("words.json")
    words.write_text(json.dumps({"lamp": "bed"}), encoding="utf-8")
    return eager_artifact(tiny["t5"], out, method="read", pooling=ONE_STEP, label_words=words)


def test_read_on_a_step_trains_as_pytorch_does(exported: tuple[Artifact, Graphs]) -> None:
    report = check_engine(exported[0], GraphEngine(*exported))
    assert report.passed, [check for check in report.checks if not check.passed]
    trainer = Trainer(exported[0], engine=GraphEngine(*exported))
    fitted = trainer.fit(intents(), epochs=2)
    assert fitted.epochs[-1].loss < fitted.epochs[0].loss


def test_untrained_logits_are_the_language_models(
    exported: tuple[Artifact, Graphs], tiny: dict[str, Path]
) -> None:
    network = T5ForConditionalGeneration.from_pretrained(tiny["t5"])
    tokenizer = Tokenizer.from_file(str(tiny["t5"] / "tokenizer.json"))
    assert list(exported[0].manifest.task.labels) == LABELS
    ids = [tokenizer.encode(word, add_special_tokens=False).ids[0] for word in ("alarm", "bed")]
    text = tokenizer.encode("lamp later today").ids
    with torch.no_grad():
        start = torch.tensor([[network.config.decoder_start_token_id]])
        logits = network(input_ids=torch.tensor([text]), decoder_input_ids=start).logits[0, 0]
    (prediction,) = Trainer(exported[0], engine=GraphEngine(*exported)).predict(
        ["lamp later today"]
    )
    found = prediction.probabilities
    assert found["alarm"] / found["lamp"] == pytest.approx(
        float((logits[ids[0]] - logits[ids[1]]).exp()), rel=1e-3
    )


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("method", "precision", "target"),
    [
        ("read", "fp32", "xnnpack"),
        ("adapter", "fp32", "xnnpack"),
        ("adapter", "int8", "xnnpack"),
        ("read", "fp32", "onnx"),
    ],
)
def test_lowered_programs_with_a_decoder_train_as_pytorch_does(
    artifact: Exported, method: str, precision: str, target: str
) -> None:
    made = artifact(method, "t5", precision=precision, pooling=ONE_STEP, target=target)
    engine = make_engine(made, threads=1)
    report = check_engine(made, engine)
    assert report.passed, [check for check in report.checks if not check.passed]


def test_a_decoder_that_is_not_there_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    message = refused("export", "--model", tiny["bert"], "--pooling", ONE_STEP)
    assert message == "--pooling decoder: 'bert' has no decoder; choose cls or mean"
    tiny_t5(T5EncoderModel).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match="has the weights of an encoder alone; choose mean"):
        load_backbone(str(tmp_path), ONE_STEP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read as JSON: "),
        ('["lamp"]', 'must map labels to words, as in {"pos": "positive"}'),
        ('{"lamps": "light"}', "'lamps' is not a label; known: alarm, lamp, music"),
        ('{"lamp": ""}', "'' of label 'lamp' is no text; give another word"),
    ],
)
def test_wrong_label_words_are_refused(
    tiny: dict[str, Path], tmp_path: Path, content: str, message: str
) -> None:
    words = tmp_path / "words.json"
    words.write_text(content, encoding="utf-8")
    data = write(tmp_path / "data.jsonl", intents())
    given = ("export", "--model", tiny["t5"], "--data", data, "--label-words", words)
    assert message in refused(*given, "--pooling", ONE_STEP, "--out", tmp_path / "a.effine")
    assert not (tmp_path / "a.effine").exists()
    needs = "--label-words: needs --pooling decoder and --task classification"
    assert refused(*given, "--out", tmp_path / "a.effine") == needs
