"""Training in C++: the same run as in Python, to the last bit, from either side's checkpoint."""

from __future__ import annotations

import math
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import BATCH, Exported, Rows, intents, scores, tags
from effine.runtime.artifact import Artifact
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.packing import PRECISIONS
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


def test_a_run_with_accumulated_gradients_is_the_same_in_both(
    artifact: Exported, runner: Runner, tmp_path: Path
) -> None:
    both = Both(artifact("head", accumulate=2), runner, tmp_path, intents()[:-3])
    both.train_python(**SETTINGS)
    both.train_native(**SETTINGS)
    assert both.same()
    both.train_python(accumulate=3, epochs=1)
    both.train_native(accumulate=3, epochs=1)
    assert both.same()


def test_accumulation_that_was_not_exported_is_refused(head: Both) -> None:
    with pytest.raises(EngineError, match=r"--accumulate 3: .* export with --accumulate"):
        head.train_native(accumulate=3)


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


@pytest.fixture
def adapter(artifact: Exported, runner: Runner, tmp_path: Path) -> Both:
    """With features of each token."""
    return Both(artifact("adapter"), runner, tmp_path, intents())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_cache_file_is_shared(adapter: Both, tmp_path: Path, precision: str) -> None:
    theirs, ours = tmp_path / "python.cache", tmp_path / "native.cache"
    settings = {**SETTINGS, "cache_precision": precision}
    Trainer(adapter.artifact, threads=1, cache=theirs).fit(
        adapter.data, checkpoint=adapter.python, **settings
    )
    printed = adapter.train_native("--cache", ours, **settings)
    assert adapter.same() and ours.read_bytes() == theirs.read_bytes()
    assert printed.startswith(f"cache: {precision}, 0.") and " MB for 24 samples, saves" in printed
    assert "holds all 24 samples" in adapter.train_native("--cache", theirs, **settings)
    assert adapter.same() and ours.read_bytes() == theirs.read_bytes()

    content = ours.read_bytes()
    damaged = bytearray(content)
    damaged[200] ^= 1
    ours.write_bytes(damaged[:-5])
    adapter.train_native("--cache", ours, **settings)
    assert adapter.same() and len(ours.read_bytes()) > len(content)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_features_are_the_same_without_a_cache(adapter: Both, precision: str) -> None:
    settings = {**SETTINGS, "cache_precision": precision}
    adapter.train_native(**SETTINGS)
    exact = adapter.native.read_bytes()
    adapter.train_native("--stop-after", str(UPDATES + 2), **settings)
    with pytest.raises(EngineError, match=rf'cache_precision \("{precision}" there, "fp32" here\)'):
        adapter.train_native("--resume", cache_precision="fp32")
    adapter.train_native("--resume")
    trainer = Trainer(adapter.artifact, threads=1, cache=False)
    trainer.fit(adapter.data, checkpoint=adapter.python, **settings)
    assert adapter.same() and adapter.native.read_bytes() != exact


def test_beyond_the_bound_features_are_recomputed(adapter: Both, tmp_path: Path) -> None:
    adapter.train_python(**SETTINGS)
    cache = tmp_path / "native.cache"
    printed = adapter.train_native("--cache", cache, "--cache-size", "9kB", **SETTINGS)
    assert adapter.same() and 5_000 < cache.stat().st_size <= 9_000
    assert re.search(r"0\.01 MB for \d of 24 samples", printed)


def test_a_full_disk_costs_recomputation_only(adapter: Both, small_disk: Path) -> None:
    adapter.train_python(**SETTINGS)
    (small_disk / "other").write_bytes(bytes(48 * 1024))
    cache = small_disk / "native.cache"
    for _ in range(2):
        adapter.train_native("--cache", cache, **SETTINGS)
        assert adapter.same() and 12_000 < cache.stat().st_size <= 16 * 1024


def test_a_kill_while_caching_costs_recomputation_only(adapter: Both, tmp_path: Path) -> None:
    adapter.train_python(**SETTINGS)
    cache = tmp_path / "native.cache"
    command = [adapter.runner.executable, "train", adapter.artifact.path, "--data", adapter.tokens]
    random.seed(0)
    for _ in range(8):
        with subprocess.Popen([*command, "--out", adapter.native, "--cache", cache]) as process:
            time.sleep(random.uniform(0.05, 0.3))
            process.kill()
    adapter.train_native("--cache", cache, **SETTINGS)
    assert adapter.same()


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
        (("--cache-precision", "int4"), "--cache-precision int4: use fp32, fp16 or int8"),
        (("--cache-size", "12 MiB"), "--cache-size needs a size such as 512MB"),
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
