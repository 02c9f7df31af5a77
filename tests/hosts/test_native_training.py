"""What the C++ runner has beyond what every host does: interrupts, ARM, its command line."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from artifacts import Exported, intents
from effine.runtime.engines.native import Runner
from effine.runtime.tensors import read_tensors
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from runs import SETTINGS, Both
from training import UPDATES

pytest_plugins = "runners"


@pytest.fixture
def head(artifact: Exported, runner: Runner, tmp_path: Path) -> Both:
    return Both(artifact("head"), runner, tmp_path, intents())


def test_an_interrupt_leaves_a_checkpoint(head: Both) -> None:
    command = [head.host.executable, "train", head.artifact.path, "--data", head.tokens]
    with subprocess.Popen(
        [*command, "--out", head.other, "--epochs", "1000000"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("epoch 1: ")
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stdout.read()
    assert process.returncode == 0
    assert Trainer(head.artifact).load(head.other).report["cancelled"]


def test_arm64_resumes_what_this_machine_began(head: Both, arm64: Runner) -> None:
    trainer = head.train_python(**SETTINGS)
    expected = trainer.state
    head.train_host("--stop-after", str(UPDATES + 2), **SETTINGS)
    head.host = arm64
    head.train_host("--resume")
    assert trainer.load(head.other).update == 4 * UPDATES
    for name, array in trainer.state.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_artifacts_loaded_side_by_side_predict_as_python_does(
    artifact: Exported, runner: Runner, tmp_path: Path
) -> None:
    texts = intents()[:5]
    runs, words = [], []
    for method in ("head", "read", "spartan"):
        (folder := tmp_path / method).mkdir()
        run = Both(artifact(method), runner, folder, intents())
        runs.append((run.train_python(**SETTINGS), folder / "out"))
        write_tokens(folder / "some.tokens", run.artifact, texts)
        words += [run.artifact.path, run.python, folder / "some.tokens", folder / "out"]
    assert runner.run("predict", *words, "--threads", "1").count("peak memory: ") == 3
    for trainer, out in runs:
        logits = torch.from_numpy(read_tensors(out)[0]["logits"])
        for text, row in zip(texts, logits.softmax(dim=-1), strict=True):
            expected = trainer.predict([text])[0].probabilities
            np.testing.assert_allclose(row[: len(expected)], [*expected.values()], rtol=1e-5)


def test_a_prediction_names_all_of_its_files(head: Both) -> None:
    command = [head.host.executable, "predict", head.artifact.path, head.python, head.tokens]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "expected: predict ARTIFACT RUN.ckpt TOKENS" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "0"), "--epochs needs a whole number from 1 to"),
        (("--warmup", "2"), "--warmup needs a number from 0.0 to 1.0"),
        (("--schedule", "step"), "--schedule step: use constant, linear or cosine"),
        (("--verbose",), "--verbose: unknown option"),
        (("--seed",), "--seed needs a value"),
        (("--cache-precision", "int4"), "--cache-precision int4: use fp32, fp16 or int8"),
        (("--cache-size", "12 MiB"), "--cache-size needs a size such as 512MB"),
        (("more",), "expected: train ARTIFACT"),
    ],
)
def test_wrong_use_is_told_in_one_line(head: Both, options: tuple[str, ...], message: str) -> None:
    command = [head.host.executable, "train", head.artifact.path, "--data", head.tokens]
    done = subprocess.run([*command, "--out", head.other, *options], capture_output=True, text=True)
    assert done.returncode == 2 and not head.other.exists()
    assert done.stderr.startswith(f"effine-runner: {message}") and done.stderr.count("\n") == 1
