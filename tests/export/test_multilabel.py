"""Any number of labels: the loss, the data's way into an export, and what the commands print."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from artifacts import THINGS, Exported, tags
from commands import good, refused
from effine.export.backbones import Backbone, load_backbone
from effine.export.errors import ExportError
from effine.export.prepare import measure_frozen_head, prepare
from effine.export.tasks import make_task
from effine.runtime.errors import DataError
from losses import assert_captured_loss_is_pytorchs


@pytest.fixture(scope="module")
def backbone(tiny: dict[str, Path]) -> Backbone:
    return load_backbone(str(tiny["bert"]), "mean")


def test_the_captured_loss_equals_pytorchs_with_gradients() -> None:
    """Also where a sigmoid is 0 or 1 in float32, and on a spare row."""
    task = make_task("multilabel", 4, spare=1)
    logits = torch.tensor([[0.3, -2.0, 90.0, -90.0, -1e4], [0.0, 5.0, -20.0, 20.0, -1e4]])
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]])
    loss, gradient = assert_captured_loss_is_pytorchs(task, logits, labels)
    assert (gradient[:, 4] == 0).all()
    assert not torch.allclose(loss[0], loss[1])


def test_labels_come_from_the_data_and_spare_rows_are_zero(backbone: Backbone) -> None:
    made = prepare("multilabel", tags(), None, 2, backbone)
    assert made.labels == sorted(THINGS)
    targets = made.samples(64).labels
    assert targets.shape == (len(tags()), 5) and targets.dtype == np.float32
    assert targets.sum() == sum(len(row["labels"]) for row in tags())
    assert not targets[:, 3:].any()


def test_a_file_of_labels_replaces_data(backbone: Backbone, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("urgent\nspam\n")
    made = prepare("multilabel", None, file, 1, backbone)
    assert made.labels == ["urgent", "spam"] and made.lengths == []
    targets = made.samples(64).labels
    assert targets.shape[1] == 3 and 0 < targets[:, :2].mean() < 0.5
    with pytest.raises(DataError, match="unknown label 'lamp'"):
        prepare("multilabel", tags(), file, 0, backbone).samples(64)


def test_without_data_or_labels_there_is_nothing_to_learn(backbone: Backbone) -> None:
    with pytest.raises(ExportError, match="no sample data; give --data or --labels"):
        prepare("multilabel", None, None, 0, backbone)
    with pytest.raises(ExportError, match="no example has a label"):
        prepare("multilabel", [{"text": "a", "labels": []}], None, 2, backbone)
    with pytest.raises(DataError, match="no column 'labels'"):
        prepare("multilabel", [{"text": "a", "label": "b"}], None, 0, backbone)


def test_the_frozen_head_ignores_spare_rows(backbone: Backbone) -> None:
    scores = []
    for spare in (0, 2):
        made = prepare("multilabel", tags(), None, spare, backbone)
        head = measure_frozen_head(backbone, make_task("multilabel", 3, spare), made, 64)
        assert head is not None and head.metric == "micro_f1"
        scores.append(head.score)
    assert scores[0] == pytest.approx(scores[1], abs=0.1) and scores[0] > 0.5


def test_the_commands(artifact: Exported, tmp_path: Path) -> None:
    path = artifact("head", "bert", "multilabel").path
    rows = [f"{row['text']},{'|'.join(row['labels'])}" for row in tags()]
    data = tmp_path / "tags.csv"
    data.write_text("\n".join(["text,labels", *rows]) + "\n")
    out = tmp_path / "a.ckpt"
    settings = ("--epochs", 40, "--head-rate", 0.2, "--threads", 1, "--out", out)
    report = json.loads(good("train", path, "--data", data, "--eval", data, *settings, "--json"))
    assert report["epochs"][-1]["metrics"]["micro_f1"] > 0.8
    checkpoint = ("--checkpoint", out, "--threads", 1)
    metrics = json.loads(good("evaluate", path, "--data", data, *checkpoint, "--json"))
    assert set(metrics) == {"micro_f1", "macro_f1"}
    texts = ["lamp music on", "off now"]
    found = json.loads(good("predict", path, *texts, *checkpoint, "--json"))
    shown = good("predict", path, *texts, *checkpoint).splitlines()
    for prediction, line in zip(found, shown, strict=True):
        first = line.partition(":")[0].split(", ")
        assert set(first) == set(prediction["labels"] or ["none"])
        assert prediction["label"] is None and set(prediction["probabilities"]) == set(THINGS)


def test_benchmarks_refuse_the_task() -> None:
    assert "'multilabel' is not one of" in refused("bench", "epoch", "--task", "multilabel")
