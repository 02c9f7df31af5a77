"""Rivals of a step: each trains as PyTorch does, or says why it can't be measured."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts import Exported
from commands import good, refused
from effine.export.bench.rivals import RIVALS
from effine.export.bench.rivals.case import RATE, Unavailable, check_losses, foreign, make_case
from effine.runtime.artifact import Artifact

ORT = Path(os.environ.get("EFFINE_ORT_PYTHON", ".ort/bin/python"))


def step(path: Path, model: Path, rivals: str, *more: object) -> dict[str, Any]:
    common = ("bench", "step", "--artifact", path, "--model", model, "--threads", 1)
    shape = ("--steps", 2, "--warmup", 0, "--rivals", rivals, "--json")
    (record,) = json.loads(good(*common, *shape, *more))["steps"]
    return dict(record)


def check_measured(record: dict[str, Any], *rivals: str) -> None:
    assert record["unavailable"] == {}
    assert set(record["ratios"]) == set(rivals) == set(record["ms"]) - {"step", "train"}
    for name in rivals:
        assert record["ms"][name]["min"] > 0 and record["ratios"][name]["step"]["median"] > 0
        assert record["rivals"][name]["trains"] in ("method", "all")


TASKS = pytest.mark.parametrize(
    "task", [pytest.param("classification", marks=pytest.mark.matrix), "regression"]
)


@TASKS
def test_executorch_and_full_tuning(artifact: Exported, tiny: dict[str, Path], task: str) -> None:
    source = tiny["distilbert" if task == "classification" else "distilbert-shallow"]
    names = ("full", "executorch", "executorch-xnnpack")
    record = step(artifact("adapter", "distilbert", task).path, source, ",".join(names))
    check_measured(record, *names)


@pytest.mark.matrix
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_compile(artifact: Exported, tiny: dict[str, Path]) -> None:
    path = artifact("head", "distilbert", "regression").path
    check_measured(step(path, tiny["distilbert-shallow"], "compile"), "compile")


@pytest.mark.skipif(not ORT.exists(), reason="no ONNX Runtime training; `make ort` installs it")
@TASKS
def test_onnx_runtime(artifact: Exported, tiny: dict[str, Path], task: str) -> None:
    source = tiny["distilbert" if task == "classification" else "distilbert-shallow"]
    path = artifact("adapter", "distilbert", task).path
    record = step(path, source, "ort,ort-full", "--ort-python", ORT)
    check_measured(record, "ort", "ort-full")


def test_what_cannot_be_measured_says_why(
    artifact: Exported, tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EFFINE_ORT_PYTHON", raising=False)
    path, model = artifact("head", "distilbert", "regression").path, tiny["distilbert-shallow"]
    common = ("bench", "step", "--artifact", path, "--model", model, "--threads", 1)
    assert "not measured: needs --ort-python" in good(*common, "--steps", 1, "--rivals", "ort")
    pytest.importorskip("onnx", reason="the model file of ONNX Runtime needs onnx")
    case = make_case(Artifact.open(path), str(model), threads=1)
    for python, reason in (
        (Path(sys.executable), "onnxruntime: No module named 'onnxruntime"),
        (tmp_path / "absent", "absent"),
        (Path(shutil.which("true") or ""), "onnxruntime: it stopped"),
    ):
        with (
            pytest.raises(Unavailable, match=reason),
            RIVALS["ort"].start(replace(case, ort_python=python)),
        ):
            pass


def test_a_tool_that_trains_otherwise_is_refused(artifact: Exported, tiny: dict[str, Path]) -> None:
    case = make_case(
        artifact("head", "distilbert", "regression"), str(tiny["distilbert-shallow"]), threads=1
    )

    def check(losses: list[float]) -> None:
        network = case.network()
        trained = [p for p in network.parameters() if p.requires_grad]
        check_losses(case, network, torch.optim.SGD(trained, RATE), losses)

    network = case.network()
    tokens, labels = case.batch.tensors()
    first = network.loss(tokens, labels)
    first.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    losses = [first.item(), network.loss(tokens, labels).item()]
    check(losses)
    for wrong in ([losses[0], losses[0]], [losses[0] + 0.1, losses[1] + 0.1]):
        with pytest.raises(Unavailable, match="doesn't train as PyTorch does"):
            check(wrong)


def test_the_reason_is_one_line() -> None:
    with pytest.raises(Unavailable, match=r"^tool: first$"), foreign("tool"):
        raise RuntimeError("first\nsecond")
    with pytest.raises(Unavailable, match=r"^tool: KeyError$"), foreign("tool"):
        raise KeyError


def test_unknown_rivals_and_other_files_are_refused(tmp_path: Path) -> None:
    assert all(name in refused("bench", "step", "--rivals", "magic") for name in RIVALS)
    for more in (("--recompute",), ("--seq", 64), ("--pooling", "cls")):
        message = refused("bench", "step", "--artifact", "a.effine", *more)
        assert f"{more[0]}: settled when the artifact was exported" in message
    letter = tmp_path / "letter.txt"
    letter.write_text("dear reader\n")
    for command in ("step", "epoch", "scaling", "size", "export"):
        assert "holds something else" in refused("bench", command, "--results", letter)
    assert letter.read_text() == "dear reader\n"
