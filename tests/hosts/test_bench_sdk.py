"""`effine bench sdk`: an update of the Kotlin SDK beside its programs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts import BATCH, Exported
from commands import good
from effine.runtime.engines.jvm import JvmRunner
from runners import ROOT

pytest_plugins = "runners"


@pytest.mark.parametrize("method", ["adapter", "spartan"])
def test_updates_and_their_programs_are_timed_in_turn(
    artifact: Exported, jvm: JvmRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """And no update allocates direct memory, where the state lies."""
    monkeypatch.chdir(ROOT)
    results = tmp_path / "results.jsonl"
    options = ("--threads", 1, "--steps", 3, "--warmup", 2, "--results", results)
    shown = good("bench", "sdk", "--artifact", artifact(method).path, *options)
    assert "update in Kotlin" in shown and "load " in shown
    (record,) = map(json.loads, results.read_text().splitlines())
    assert record["kind"] == "sdk" and (record["steps"], record["threads"]) == (3, 1)
    assert record["ratio"]["median"] > 0 and record["ms"]["bare"]["min"] > 0
    assert record["programs"][-1] == f"train_b{BATCH}_s16"
    assert record["direct"] == 0 and record["heap"] > 0
