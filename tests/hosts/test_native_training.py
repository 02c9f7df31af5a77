"""What the C++ runner has beyond what every host does: its feature cache, interrupts, ARM."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, intents
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.packing import PRECISIONS
from effine.runtime.trainer import Trainer
from runs import SETTINGS, UPDATES, Both

pytest_plugins = "runners"


@pytest.fixture
def head(artifact: Exported, runner: Runner, tmp_path: Path) -> Both:
    return Both(artifact("head"), runner, tmp_path, intents())


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
    printed = adapter.train_host("--cache", ours, **settings)
    assert adapter.same() and ours.read_bytes() == theirs.read_bytes()
    assert printed.startswith(f"cache: {precision}, 0.") and " MB for 24 samples, saves" in printed
    assert "holds all 24 samples" in adapter.train_host("--cache", theirs, **settings)
    assert adapter.same() and ours.read_bytes() == theirs.read_bytes()

    content = ours.read_bytes()
    damaged = bytearray(content)
    damaged[200] ^= 1
    ours.write_bytes(damaged[:-5])
    adapter.train_host("--cache", ours, **settings)
    assert adapter.same() and len(ours.read_bytes()) > len(content)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_features_are_the_same_without_a_cache(adapter: Both, precision: str) -> None:
    settings = {**SETTINGS, "cache_precision": precision}
    adapter.train_host(**SETTINGS)
    exact = adapter.other.read_bytes()
    adapter.train_host("--stop-after", str(UPDATES + 2), **settings)
    with pytest.raises(EngineError, match=rf'cache_precision \("{precision}" there, "fp32" here\)'):
        adapter.train_host("--resume", cache_precision="fp32")
    adapter.train_host("--resume")
    trainer = Trainer(adapter.artifact, threads=1, cache=False)
    trainer.fit(adapter.data, checkpoint=adapter.python, **settings)
    assert adapter.same() and adapter.other.read_bytes() != exact


def test_beyond_the_bound_features_are_recomputed(adapter: Both, tmp_path: Path) -> None:
    adapter.train_python(**SETTINGS)
    cache = tmp_path / "native.cache"
    printed = adapter.train_host("--cache", cache, "--cache-size", "9kB", **SETTINGS)
    assert adapter.same() and 5_000 < cache.stat().st_size <= 9_000
    assert re.search(r"0\.01 MB for \d of 24 samples", printed)


def test_a_full_disk_costs_recomputation_only(adapter: Both, small_disk: Path) -> None:
    adapter.train_python(**SETTINGS)
    (small_disk / "other").write_bytes(bytes(48 * 1024))
    cache = small_disk / "native.cache"
    for _ in range(2):
        adapter.train_host("--cache", cache, **SETTINGS)
        assert adapter.same() and 12_000 < cache.stat().st_size <= 16 * 1024


def test_a_kill_while_caching_costs_recomputation_only(adapter: Both, tmp_path: Path) -> None:
    adapter.train_python(**SETTINGS)
    cache = tmp_path / "native.cache"
    command = [adapter.host.executable, "train", adapter.artifact.path, "--data", adapter.tokens]
    random.seed(0)
    for _ in range(8):
        with subprocess.Popen([*command, "--out", adapter.other, "--cache", cache]) as process:
            time.sleep(random.uniform(0.05, 0.3))
            process.kill()
    adapter.train_host("--cache", cache, **SETTINGS)
    assert adapter.same()


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
