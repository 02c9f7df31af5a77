"""Spans that answer questions: the loss, the head against transformers, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from artifacts import DROPS_TOKENS, Exported, questions
from commands import good, refused, write
from effine.export.backbones import encoder_from, load_backbone
from effine.export.bench.squad import split_by_article
from effine.export.encoder import ALL_TOKENS
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.model import Model
from effine.export.prepare import measure_frozen_head, prepare
from effine.export.tasks import make_task
from losses import assert_captured_loss_is_pytorchs
from networks import tiny_network

TASK = "question-answering"


def model_of(method: str) -> Model:
    encoder = encoder_from(tiny_network("bert"))
    encoder.pooling = ALL_TOKENS
    return Model(encoder, make_method(method), make_task(TASK, 2))


def batch(rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token inputs whose first row of several is short, and labels [B, 2, 9]."""
    torch.manual_seed(2)
    mask = torch.ones(rows, 9, dtype=torch.int64)
    if rows > 1:
        mask[0, 5:] = 0
    ids = torch.randint(1000, 20000, mask.shape) * mask
    tokens = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask}
    labels = torch.zeros(rows, 2, 9)
    labels[:, 0, 2] = labels[:, 1, 4] = 1
    return tokens, labels - (1 - mask).unsqueeze(1).float()


def test_the_captured_loss_equals_pytorchs_with_gradients() -> None:
    task = make_task(TASK, 2)
    torch.manual_seed(0)
    logits = torch.randn(3, 9, 2)
    labels = batch(3)[1]
    labels[2] = 0
    loss, gradient = assert_captured_loss_is_pytorchs(task, logits, labels)
    assert loss[2] == 0 < loss[0]
    assert (gradient[0, 5:] == 0).all() and gradient[0, :5].all()


def test_logits_and_loss_are_those_of_transformers() -> None:
    """It doesn't leave out padding, so the text has none."""
    network = tiny_network("bert")
    theirs = BertForQuestionAnswering(BertConfig(**network.config.to_dict())).eval()
    theirs.bert.load_state_dict(network.state_dict(), strict=False)
    model = model_of("head")
    theirs.qa_outputs.load_state_dict({"weight": model.head.weight, "bias": torch.zeros(2)})
    tokens, labels = batch(1)
    first, last = labels.argmax(2).T
    output = theirs(**tokens, start_positions=first, end_positions=last)
    logits = model(model.features(tokens), tokens["attention_mask"])
    expected = torch.stack([output.start_logits, output.end_logits], 2)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.task.reference_loss(logits, labels).mean(), output.loss)


@pytest.mark.parametrize("method", sorted({*known_methods()} - {DROPS_TOKENS}))
def test_every_method_serves_each_token_and_padding_has_no_part(method: str) -> None:
    model = model_of(method)
    torch.manual_seed(3)
    for parameter in model.trainable().values():
        parameter.data += 0.02 * torch.randn_like(parameter)
    tokens, labels = batch(4)
    mask = tokens["attention_mask"]
    features = model.features(tokens)
    results = []
    for given in (features, {k: v * mask.unsqueeze(-1) for k, v in features.items()}):
        loss = model.task.loss(model(given, mask), labels).sum()
        results.append((loss, *torch.autograd.grad(loss, list(model.trainable().values()))))
    for whole, without in zip(*results, strict=True):
        torch.testing.assert_close(without, whole, rtol=1e-5, atol=1e-7)


def test_preparing(tiny: dict[str, Path]) -> None:
    backbone = load_backbone(str(tiny["bert"]), ALL_TOKENS)
    made = prepare(TASK, questions(), None, 0, backbone)
    assert made.labels == [] and made.outputs == 2 and made.pair
    assert made.samples(24).labels.shape == (len(questions()), 2, 24)
    head = measure_frozen_head(backbone, make_task(TASK, 2), made, 24)
    assert head is not None and head.metric == "f1" and 0 <= head.score <= 1
    stand_in = prepare(TASK, None, None, 0, backbone)
    assert stand_in.lengths == [] and stand_in.pair
    assert all(example.answers for example in stand_in.examples)


def test_what_the_task_has_no_use_for_is_refused(tmp_path: Path, tiny: dict[str, Path]) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    given = ("--task", TASK, "--model", tiny["bert"], "--out", tmp_path / "a.effine")
    assert "has no labels" in refused("export", *given, "--labels", labels)
    assert "has no labels" in refused("export", *given, "--spare-labels", 2)
    assert "needs all tokens" in refused("export", *given, "--pooling", "cls")


def test_articles_are_split_whole(tmp_path: Path) -> None:
    def article(index: int) -> dict:
        qas = [
            {"id": f"{index}-{n}", "question": "q", "answers": [{"text": "b", "answer_start": 2}]}
            for n in range(index + 1)
        ]
        return {"title": str(index), "paragraphs": [{"context": f"a b {index}", "qas": qas}]}

    path = tmp_path / "small.json"
    path.write_text(json.dumps({"data": [article(index) for index in range(10)]}))
    train, test = split_by_article(path)
    assert {row["context"] for row in test} == {"a b 4", "a b 9"} and len(test) == 5 + 10
    assert len(train) == sum(range(1, 11)) - 15
    assert train[0]["answers"] == [{"text": "b", "start": 2}]
    path.write_text('{"data": [{}]}')
    with pytest.raises(ExportError, match="not a file in SQuAD's format"):
        split_by_article(path)


def test_the_commands(artifact: Exported, tmp_path: Path) -> None:
    path = artifact("head", "bert", TASK).path
    data = write(tmp_path / "a.jsonl", questions())
    out = tmp_path / "a.ckpt"
    settings = ("--epochs", 2, "--threads", 1, "--out", out)
    report = json.loads(good("train", path, "--data", data, "--eval", data, *settings, "--json"))
    assert set(report["epochs"][-1]["metrics"]) == {"f1", "exact_match"}
    checkpoint = ("--checkpoint", out, "--threads", 1)
    found = json.loads(good("predict", path, "--data", data, *checkpoint, "--json"))
    for row, answer in zip(questions(), found, strict=True):
        assert row["context"][answer["start"] : answer["end"]] == answer["text"]
    shown = good("predict", path, "--data", data, *checkpoint).splitlines()
    assert shown[0].startswith(f"{found[0]['text']}  {found[0]['probability']:.3f}")
    assert 'give {"question"' in refused("predict", path, "where", *checkpoint)
