"""Shared fixtures: tiny random backbones on disk, and the packaged MiniLM."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import pytest
import torch

from artifacts import artifact  # noqa: F401  (a fixture)
from effine.export.backbones import Backbone, load_backbone
from networks import ARCHITECTURES, save_tiny


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same random numbers for a test whatever ran before it, in its fixtures too."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of tiny models by architecture; those ending in `-shallow` have one layer."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name in (*ARCHITECTURES, "bert-shallow", "distilbert-shallow"):
        architecture = name.removesuffix("-shallow")
        layers = 1 if name.endswith("-shallow") else 2
        paths[name] = folder / f"tiny-{name}"
        save_tiny(architecture, paths[name], layers)
    return paths


@pytest.fixture(scope="session")
def minilm() -> Backbone:
    """The packaged MiniLM; tests must not change it."""
    return load_backbone("minilm")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs mount: only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
