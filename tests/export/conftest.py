"""Fixtures of the exporter's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts import intents
from commands import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of 24 + 24 texts."""
    path = tmp_path / "things"
    path.mkdir()
    write(path / "train.jsonl", intents())
    write(path / "dev.jsonl", intents(3))
    return path
