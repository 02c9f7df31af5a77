"""A tag for each word: the loss, the head against transformers, and data for an export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from artifacts import DROPS_TOKENS, Exported, slots
from commands import good, refused, write
from effine.export.backbones import Backbone, encoder_from, load_backbone
from effine.export.bench.rivals.network import RivalNetwork, as_tensors, check_rival
from effine.export.encoder import ALL_TOKENS
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.model import Model
from effine.export.prepare import measure_frozen_head, prepare
from effine.export.tasks import make_task
from effine.runtime.errors import DataError
from effine.runtime.tasks.token_classification import IGNORED, entities
from effine.runtime.trainer import Trainer
from losses import assert_captured_loss_is_pytorchs
from networks import tiny_network

TASK = "token-classification"
LABELS = sorted({tag for row in slots() for tag in row["tags"]})


@pytest.fixture(scope="module")
def backbone(tiny: dict[str, Path]) -> Backbone:
    return load_backbone(str(tiny["bert"]), ALL_TOKENS)


def model_of(method: str, outputs: int = 5) -> Model:
    encoder = encoder_from(tiny_network("bert"))
    encoder.pooling = ALL_TOKENS
    return Model(encoder, make_method(method), make_task(TASK, outputs))


def batch(rows: int = 4, length: int = 9) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token inputs whose first row is short, and labels on some of the tokens."""
    torch.manual_seed(2)
    mask = torch.ones(rows, length, dtype=torch.int64)
    mask[0, 5:] = 0
    ids = torch.randint(1000, 20000, (rows, length)) * mask
    labels = torch.randint(0, 5, (rows, length))
    labels[:, ::3] = IGNORED
    labels[mask == 0] = IGNORED
    tokens = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask}
    return tokens, labels


def test_the_captured_loss_equals_pytorchs_with_gradients() -> None:
    """Also for a text without any label, and on a spare row."""
    task = make_task(TASK, 4, spare=1)
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 5)
    logits[..., 4] = -1e4
    labels = torch.tensor([[1, -100, 0, 3, -100], [-100] * 5, [2, 2, 2, 2, 2]])
    loss, gradient = assert_captured_loss_is_pytorchs(task, logits, labels)
    assert (gradient[labels == IGNORED] == 0).all() and (gradient[..., 4] == 0).all()
    assert loss[1] == 0 and not torch.allclose(loss[0], loss[2])


@pytest.mark.parametrize("rows", [1, 4])
def test_logits_and_loss_are_those_of_transformers(rows: int) -> None:
    """Its loss is the mean over all labelled tokens of a batch, which is ours for one text."""
    network = tiny_network("bert")
    config = BertConfig(**network.config.to_dict() | {"num_labels": 5})
    theirs = BertForTokenClassification(config).eval()
    theirs.bert.load_state_dict(network.state_dict(), strict=False)
    model = model_of("head")
    theirs.classifier.load_state_dict(model.head.state_dict())
    tokens, labels = batch(rows)
    output = theirs(**tokens, labels=labels)
    logits = model(model.features(tokens), tokens["attention_mask"])
    valid = tokens["attention_mask"] == 1
    torch.testing.assert_close(logits[valid], output.logits[valid], rtol=1e-4, atol=1e-5)
    each = model.task.reference_loss(logits, labels)
    counts = (labels >= 0).sum(1)
    torch.testing.assert_close((each * counts).sum() / counts.sum(), output.loss)


@pytest.mark.parametrize("method", sorted({*known_methods()} - {DROPS_TOKENS}))
def test_every_method_serves_each_token_and_padding_has_no_part(method: str) -> None:
    model = model_of(method)
    torch.manual_seed(3)
    for parameter in model.trainable().values():
        parameter.data += 0.02 * torch.randn_like(parameter)
    tokens, labels = batch()
    mask = tokens["attention_mask"]
    features = model.features(tokens)
    assert all(feature.shape[:2] == mask.shape for feature in features.values())
    results = []
    for given in (features, {k: v * mask.unsqueeze(-1) for k, v in features.items()}):
        logits = model(given, mask)
        assert logits.shape == (*mask.shape, 5)
        loss = model.task.loss(logits, labels).sum()
        results.append((loss, *torch.autograd.grad(loss, list(model.trainable().values()))))
    for whole, without in zip(*results, strict=True):
        torch.testing.assert_close(without, whole, rtol=1e-5, atol=1e-7)
    assert all(gradient.any() for gradient in results[0][1:])


def test_labels_come_from_the_data(backbone: Backbone, tmp_path: Path) -> None:
    made = prepare(TASK, slots(), None, 2, backbone)
    assert made.labels == LABELS and made.outputs == len(LABELS) and not made.pair
    samples = made.samples(16)
    assert samples.labels.shape == (len(slots()), 16) and samples.labels.dtype == np.int64
    assert (samples.labels >= 0).sum() == sum(len(row["tags"]) for row in slots())
    file = tmp_path / "labels.txt"
    file.write_text("O\nB-x\nI-x\n")
    made = prepare(TASK, None, file, 0, backbone)
    assert made.labels == ["O", "B-x", "I-x"] and made.lengths == []
    assert {tag for example in made.examples for tag in example.tags or ()} == set(made.labels)
    with pytest.raises(DataError, match="unknown label 'B-lamp'"):
        prepare(TASK, slots(), file, 0, backbone).samples(16)


def test_what_the_task_has_no_use_for_is_refused(tmp_path: Path, tiny: dict[str, Path]) -> None:
    data = write(tmp_path / "a.jsonl", slots())
    given = ("--task", TASK, "--model", tiny["bert"], "--out", tmp_path / "a.effine")
    assert "no sample data; give --data or --labels" in refused("export", *given)
    message = refused("export", *given, "--data", data, "--pooling", "mean")
    assert message == f"--pooling mean: --task {TASK} needs all tokens"
    first = ("--method", "read", "--method-option", "tokens=first")
    assert "the task needs all tokens" in refused("export", *given, "--data", data, *first)


def test_the_frozen_head_is_measured_by_entities(backbone: Backbone) -> None:
    made = prepare(TASK, slots(), None, 1, backbone)
    head = measure_frozen_head(backbone, make_task(TASK, len(LABELS), 1), made, 16)
    assert head is not None and head.metric == "entity_f1" and head.score > 0.9


def test_without_real_data_there_is_no_frozen_head(backbone: Backbone, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("O\nB-x\n")
    made = prepare(TASK, None, file, 0, backbone)
    assert measure_frozen_head(backbone, make_task(TASK, 2), made, 16) is None


def test_one_label_is_too_few(backbone: Backbone) -> None:
    with pytest.raises(ExportError, match=r"one label only \(O\)"):
        prepare(TASK, [{"tokens": ["a"], "tags": ["O"]}], None, 0, backbone)


def test_the_rival_computes_the_same(tiny: dict[str, Path], backbone: Backbone) -> None:
    model = Model(backbone.encoder, make_method("head"), make_task(TASK, 5))
    arrays = {name: tensor.numpy() for name, tensor in batch()[0].items()}
    arrays["attention_mask"][:] = 1
    network = RivalNetwork(model, str(tiny["bert"]))
    assert check_rival(network, model, as_tensors(arrays)) < 1e-4


def test_the_commands(artifact: Exported, tmp_path: Path) -> None:
    path = artifact("head", "bert", TASK).path
    rows = ["tokens\ttags", *(f"{' '.join(r['tokens'])}\t{' '.join(r['tags'])}" for r in slots())]
    data, out = tmp_path / "slots.tsv", tmp_path / "a.ckpt"
    data.write_text("\n".join(rows) + "\n")
    settings = ("--epochs", 30, "--head-rate", 0.2, "--threads", 1, "--out", out)
    report = json.loads(good("train", path, "--data", data, "--eval", data, *settings, "--json"))
    assert report["epochs"][-1]["metrics"]["entity_f1"] > 0.9 and report["warnings"] == []
    checkpoint = ("--checkpoint", out, "--threads", 1)
    metrics = json.loads(good("evaluate", path, "--data", data, *checkpoint, "--json"))
    assert list(metrics) == ["entity_f1", "entity_precision", "entity_recall", "tag_accuracy"]
    text = "lamp  later lamp later today"
    (found,) = json.loads(good("predict", path, text, *checkpoint, "--json"))
    assert [word["word"] for word in found["words"]] == text.split()
    spans = [(e["label"], e["start"], e["end"]) for e in found["entities"]]
    assert ("lamp", 0, 1) in spans and spans == entities([w["tag"] for w in found["words"]])
    shown = good("predict", path, text, *checkpoint).strip()
    assert shown.startswith("[lamp: lamp 0.") and shown.count("[") == len(spans)
    again = ("--data", data, "--class-weights", "balanced", "--out", tmp_path / "b.ckpt")
    assert "no label for each example" in refused("train", path, *again)
    added = ("--add-label", "B-new", "--epochs", 1, "--threads", 1, "--out", tmp_path / "c.ckpt")
    good("train", path, "--data", data, *added)
    (found,) = Trainer(path, threads=1).predict([text.split()])
    assert len(found.words) == 5 and "B-new" not in found.choices
