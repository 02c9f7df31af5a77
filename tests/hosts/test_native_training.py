"""What the C++ runner has beyond what every host does: interrupts, ARM, its command line."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, intents
from effine.runtime.engines.native import Runner
from effine.runtime.trainer import Trainer
from runs import SETTINGS, UPDATES, Both

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
