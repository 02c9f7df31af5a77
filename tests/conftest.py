"""Shared fixtures: tiny random backbones on disk, and the packaged MiniLM."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
)

from artifacts import artifact  # noqa: F401  (a fixture)
from effine.export.backbones import Backbone, load_backbone, packaged_minilm

SIZES = {"hidden": 32, "layers": 2, "heads": 2, "width": 64, "positions": 64}


def tiny_network(architecture: str, layers: int = 2) -> PreTrainedModel:
    """A small random transformers model that uses MiniLM's vocabulary."""
    torch.manual_seed(0)
    if architecture == "bert":
        return BertModel(
            BertConfig(
                vocab_size=30522,
                hidden_size=SIZES["hidden"],
                num_hidden_layers=layers,
                num_attention_heads=SIZES["heads"],
                intermediate_size=SIZES["width"],
                max_position_embeddings=SIZES["positions"],
                initializer_range=0.1,
            )
        ).eval()
    return DistilBertModel(
        DistilBertConfig(
            vocab_size=30522,
            dim=SIZES["hidden"],
            n_layers=layers,
            n_heads=SIZES["heads"],
            hidden_dim=SIZES["width"],
            max_position_embeddings=SIZES["positions"],
            initializer_range=0.1,
        )
    ).eval()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of tiny models by architecture, and `-shallow` ones of a single layer."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(packaged_minilm())
    paths = {}
    for architecture, suffix in itertools.product(("bert", "distilbert"), ("", "-shallow")):
        path = folder / f"tiny-{architecture}{suffix}"
        tiny_network(architecture, 1 if suffix else 2).save_pretrained(path)
        tokenizer.save_pretrained(path)
        paths[architecture + suffix] = path
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
