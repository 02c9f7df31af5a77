"""Training in C++: the same run as in Python, to the last bit, from either side's checkpoint."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import BATCH, Exported, Rows, intents, scores, tags
from effine.runtime.artifact import Artifact
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.run import Progress
from effine.runtime.tensors import read_tensors, write_tensors
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer

pytest_plugins = "runners"
SETTINGS = {"epochs": 4, "head_rate": 0.05, "schedule": "cosine", "warmup": 0.2, "seed": 3}
UPDATES = math.ceil(len(intents()) / BATCH)


class Both:
    """The same run in Python and in the runner, each with a checkpoint of its own."""

    def __init__(self, artifact: Artifact, runner: Runner, folder: Path, data: Rows) -> None:
        self.artifact, self.runner, self.data = artifact, runner, data
        self.python, self.native = folder / "python.ckpt", folder / "native.ckpt"
        self.tokens = folder / "data.tokens"
        write_tokens(self.tokens, artifact, data)

    def train_python(self, stop: int | None = None, **settings: Any) -> Trainer:
        trainer = Trainer(self.artifact, threads=1)

        def callback(progress: Progress) -> None:
            if progress.update == stop:
                trainer.cancel()

        trainer.fit(self.data, checkpoint=self.python, callbacks=[callback], **settings)
        return trainer

    def train_native(self, *options: str | Path, **settings: Any) -> str:
        for name, value in settings.items():
            options += (f"--{name.replace('_', '-')}", str(value))
        command = ("train", self.artifact.path, "--data", self.tokens, "--out", self.native)
        return self.runner.run(*command, "--threads", "1", *options)

    def same(self) -> bool:
        return self.python.read_bytes() == self.native.read_bytes()


@pytest.fixture
def head(artifact: Exported, runner: Runner, tmp_path: Path) -> Both:
    return Both(artifact("head"), runner, tmp_path, intents())


@pytest.mark.parametrize("method", ["head", "spartan", "read"])
def test_a_run_is_the_same_in_both(
    artifact: Exported,
    runner: Runner,
    tmp_path: Path,
    method: str,
) -> None:
    both = Both(artifact(method), runner, tmp_path, intents())
    both.train_python(**SETTINGS)
    printed = both.train_native(**SETTINGS)
    assert both.same()
    assert printed.count("epoch ") == 4 and "warning" not in printed


@pytest.mark.parametrize("method", ["head", "spartan"])
@pytest.mark.parametrize("update", [1, UPDATES + 2, 2 * UPDATES])
def test_either_resumes_what_the_other_began(
    artifact: Exported,
    runner: Runner,
    tmp_path: Path,
    method: str,
    update: int,
) -> None:
    both = Both(artifact(method), runner, tmp_path, intents())
    both.train_python(**SETTINGS)
    whole = both.python.read_bytes()

    both.train_python(stop=update, **SETTINGS)
    both.train_native("--stop-after", str(update), **SETTINGS)
    assert both.same() and both.python.read_bytes() != whole

    swapped = tmp_path / "swapped"
    shutil.move(both.python, swapped)
    shutil.move(both.native, both.python)
    shutil.move(swapped, both.native)
    Trainer(both.artifact, threads=1).resume(both.python, both.data)
    assert "trained" in both.train_native("--resume")
    assert both.python.read_bytes() == both.native.read_bytes() == whole


@pytest.mark.parametrize("rate", [1, 1e-05, 0.0001, 1.25e16, 1e30])
def test_rates_are_written_as_python_writes_them(head: Both, rate: float) -> None:
    """With the largest ones the state overflows and updates are discarded."""
    settings = {"epochs": 2, "head_rate": float(rate), "seed": 2**64 - 1}
    trainer = head.train_python(**settings)
    head.train_native(**settings)
    assert head.same()
    assert bool(trainer.load(head.native).report["discarded"]) == (rate > 1e16)


def test_labels_and_weights_of_the_data_count(head: Both) -> None:
    """A label that was added on the device, and class weights that don't sum up exactly."""
    name = 'na\u00efve "\u03c0"\t\x7f\\'
    head.data = [*intents()[:17], {"text": "open the window", "label": name}]
    trainer = Trainer(head.artifact, threads=1)
    trainer.add_label(name)
    trainer.fit(head.data, checkpoint=head.python, class_weights="balanced", **SETTINGS)
    write_tokens(
        head.tokens, head.artifact, head.data, labels=trainer.labels, class_weights="balanced"
    )
    head.train_native(**SETTINGS)
    assert head.same()


def test_scores(artifact: Exported, runner: Runner, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "regression"), runner, tmp_path, scores())
    both.train_python(**SETTINGS)
    both.train_native(**SETTINGS)
    assert both.same()


def test_several_labels(artifact: Exported, runner: Runner, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "multilabel"), runner, tmp_path, tags())
    both.train_python(**SETTINGS)
    both.train_native(**SETTINGS)
    assert both.same()
    tensors, metadata = read_tensors(both.tokens)
    narrow = {**tensors, "labels": tensors["labels"][:, :2].copy()}
    write_tensors(both.tokens, narrow, metadata)
    with pytest.raises(EngineError, match="its lists don't belong together"):
        both.train_native()


def test_the_cache_file_is_shared(head: Both, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "python.cache", tmp_path / "native.cache"
    Trainer(head.artifact, threads=1, cache=theirs).fit(
        head.data, checkpoint=head.python, **SETTINGS
    )
    head.train_native("--cache", ours, **SETTINGS)
    assert head.same() and ours.read_bytes() == theirs.read_bytes()

    content = ours.read_bytes()
    damaged = bytearray(content)
    damaged[200] ^= 1
    ours.write_bytes(damaged[:-5])
    head.train_native("--cache", ours, **SETTINGS)
    assert head.same() and len(ours.read_bytes()) > len(content)


def test_an_interrupt_leaves_a_checkpoint(head: Both) -> None:
    command = [head.runner.executable, "train", head.artifact.path, "--data", head.tokens]
    with subprocess.Popen(
        [*command, "--out", head.native, "--epochs", "1000000"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("epoch 1: ")
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stdout.read()
    assert process.returncode == 0
    assert Trainer(head.artifact).load(head.native).report["cancelled"]


def test_arm64_resumes_what_this_machine_began(head: Both, arm64: Runner) -> None:
    trainer = head.train_python(**SETTINGS)
    expected = trainer.state
    head.train_native("--stop-after", str(UPDATES + 2), **SETTINGS)
    head.runner = arm64
    head.train_native("--resume")
    assert trainer.load(head.native).update == 4 * UPDATES
    for name, array in trainer.state.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_resumption_with_something_else_is_refused(head: Both, artifact: Exported) -> None:
    head.train_native("--stop-after", "3", **SETTINGS)
    before = head.native.read_bytes()
    with pytest.raises(EngineError, match=r"setting epochs \(4 there, 5 here\); use the same"):
        head.train_native("--resume", epochs=5)
    write_tokens(head.tokens, head.artifact, intents()[1:])
    with pytest.raises(EngineError, match="the data are not those of the interrupted run"):
        head.train_native("--resume")
    other = artifact("spartan")
    write_tokens(head.tokens, other, intents())
    head.artifact = other
    with pytest.raises(EngineError, match=r"another artifact, with other method, .*state"):
        head.train_native("--resume")
    assert head.native.read_bytes() == before


def test_damaged_files_are_refused(head: Both) -> None:
    head.train_native("--stop-after", "3", **SETTINGS)
    content = bytearray(head.native.read_bytes())
    content[-1] ^= 1
    head.native.write_bytes(content)
    with pytest.raises(EngineError, match=r"native\.ckpt: damaged: .* sha256"):
        head.train_native("--resume")
    head.native.write_bytes(content[:100])
    with pytest.raises(EngineError, match=r"native\.ckpt: not a usable tensor file"):
        head.train_native("--resume")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("offsets", np.arange(25, dtype=np.int64)[::-1], "don't belong together"),
        ("weights", np.ones(3, np.float32), "don't belong together"),
        ("labels", np.full(24, 3, np.int64), "a label is unknown"),
        ("labels", np.full(24, 3, np.float32), "expected int64, found float32"),
        ("tokenizer", "0" * 64, "another tokenizer or length"),
        ("max_length", "8", "another tokenizer or length"),
        ("labels", '["alarm"]', "its labels don't continue the artifact's"),
        ("schema", "2", "not a tokens file of schema 1"),
    ],
)
def test_unusable_tokens_are_refused(head: Both, name: str, value: Any, problem: str) -> None:
    tensors, metadata = read_tensors(head.tokens)
    changed: dict[str, Any] = metadata if isinstance(value, str) else tensors
    changed[name] = value
    write_tensors(head.tokens, tensors, metadata)
    with pytest.raises(EngineError, match=rf"data\.tokens: .*{problem}.*; write it again"):
        head.train_native()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "0"), "--epochs needs a whole number from 1 to"),
        (("--warmup", "2"), "--warmup needs a number from 0.0 to 1.0"),
        (("--schedule", "step"), "--schedule step: use constant, linear or cosine"),
        (("--verbose",), "--verbose: unknown option"),
        (("--seed",), "--seed needs a value"),
        (("more",), "expected: train ARTIFACT"),
    ],
)
def test_wrong_use_is_told_in_one_line(head: Both, options: tuple[str, ...], message: str) -> None:
    command = [head.runner.executable, "train", head.artifact.path, "--data", head.tokens]
    done = subprocess.run(
        [*command, "--out", head.native, *options], capture_output=True, text=True
    )
    assert done.returncode == 2 and not head.native.exists()
    assert done.stderr.startswith(f"effine-runner: {message}") and done.stderr.count("\n") == 1
