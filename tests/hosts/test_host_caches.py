"""The feature cache of the C++ runner and of the Kotlin SDK: Python's file, and never a result."""

from __future__ import annotations

import random
import re
import subprocess
import time
from pathlib import Path

import pytest

from artifacts import Exported, intents
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.errors import EngineError
from effine.runtime.packing import PRECISIONS
from effine.runtime.trainer import Trainer
from runners import Host
from runs import SETTINGS, Both
from training import UPDATES

pytest_plugins = "runners"


@pytest.fixture
def adapter(artifact: Exported, host: Host, tmp_path: Path) -> Both:
    """With features of each token."""
    return Both(artifact("adapter"), host, tmp_path, intents())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_cache_file_is_shared(adapter: Both, tmp_path: Path, precision: str) -> None:
    theirs, ours = tmp_path / "python.cache", tmp_path / "host.cache"
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
    cache = tmp_path / "host.cache"
    printed = adapter.train_host("--cache", cache, "--cache-size", "9kB", **SETTINGS)
    assert adapter.same() and 5_000 < cache.stat().st_size <= 9_000
    assert re.search(r"0\.01 MB for \d of 24 samples", printed)


def test_a_full_disk_costs_recomputation_only(adapter: Both, small_disk: Path) -> None:
    adapter.train_python(**SETTINGS)
    (small_disk / "other").write_bytes(bytes(48 * 1024))
    cache = small_disk / "host.cache"
    for _ in range(2):
        adapter.train_host("--cache", cache, **SETTINGS)
        assert adapter.same() and 12_000 < cache.stat().st_size <= 16 * 1024


def test_a_kill_while_caching_costs_recomputation_only(adapter: Both, tmp_path: Path) -> None:
    adapter.train_python(**SETTINGS)
    cache = tmp_path / "host.cache"
    jvm = isinstance(adapter.host, JvmRunner)
    start = adapter.host.command if jvm else (adapter.host.executable,)
    command = [*start, "train", adapter.artifact.path, "--data", adapter.tokens]
    random.seed(0)
    for _ in range(4 if jvm else 8):
        with subprocess.Popen([*command, "--out", adapter.other, "--cache", cache]) as process:
            time.sleep(random.uniform(0.5, 1.5) if jvm else random.uniform(0.05, 0.3))
            process.kill()
    adapter.train_host("--cache", cache, **SETTINGS)
    assert adapter.same()
