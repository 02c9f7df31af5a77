"""Tasks: where heads start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from artifacts import Exported, scores
from effine.export.tasks import make_task
from effine.runtime.tensors import read_tensors


def test_a_regression_starts_from_the_mean_score() -> None:
    task = make_task("regression", 1)
    task.begin_at(np.array([1.0, 2.0, 6.0], np.float32))
    head = task.head(4)
    assert head.bias.item() == 3.0
    logits = head(torch.zeros(3, 4))
    assert task.loss(logits, torch.tensor([1.0, 2.0, 6.0])).tolist() == [4.0, 1.0, 9.0]


def test_an_exported_regression_does(artifact: Exported) -> None:
    state, _ = read_tensors(artifact("head", "bert", "regression").path / "state.safetensors")
    mean = np.mean([example["score"] for example in scores()])
    assert state["head.bias"] == pytest.approx(mean)
