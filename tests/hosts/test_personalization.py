"""The Kotlin SDK's updates from the user's examples, in processes that are killed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from artifacts import Exported, intents
from bundles import rename
from commands import write
from effine.runtime.artifact import Artifact
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.errors import EngineError

pytest_plugins = "runners"


def command(artifact: Artifact, home: Path, *options: object) -> list[str]:
    data = write(home.with_suffix(".jsonl"), intents())
    parts = ("personalize", artifact.path, "--home", home, "--data", data, *options)
    parts += ("--head-rate", 0.05, "--seed", 3, "--threads", 1, "--checkpoint-every", 2)
    return [str(part) for part in parts]


def killed(jvm: JvmRunner, arguments: list[str], choose: random.Random) -> list[str]:
    """What a process printed until it was killed, at a random moment."""
    with subprocess.Popen([*jvm.command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        if choose.random() < 0.8:
            lines = [process.stdout.readline() for _ in range(choose.randint(1, 6))]
            time.sleep(choose.uniform(0, 0.01))
        else:
            time.sleep(choose.uniform(0, 1.5))
        process.kill()
        return [line.strip() for line in (*lines, *process.stdout) if line.endswith("\n")]


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.matrix)])
def test_kills_lose_nothing(artifact: Exported, jvm: JvmRunner, tmp_path: Path, times: int) -> None:
    """The state in the end is that of a run in peace, and each example that was kept is there."""
    head, choose, epochs = artifact("head"), random.Random(times), ("--epochs", 20 + 4 * times)
    whole, home = tmp_path / "whole", tmp_path / "home"
    assert "ACCEPTED " in jvm.run(*command(head, whole, *epochs))

    kept, reached = [row["text"] for row in intents()], [0]
    for number in range(times):
        row = {"text": f"music number {number}", "label": "music"}
        more = ("--learn", write(tmp_path / "more.jsonl", [row]))
        lines = killed(jvm, command(head, home, *epochs, *more), choose)
        kept += [row["text"]] if any(line.startswith("kept ") for line in lines) else []
        reached += [int(line.split()[1]) for line in lines if line.startswith("update ")][-1:]
        assert reached[-1] < 2 or (home / "state-1.ckpt").exists()
    assert reached[-1] > max(reached[1], times) and stored(home)["run"] is not None

    jvm.run(*command(head, home, *epochs))
    assert (home / "state-1.ckpt").read_bytes() == (whole / "state-1.ckpt").read_bytes()
    texts = [example["text"] for example in stored(home)["examples"]]
    assert set(kept) <= set(texts) and len(texts) == len(set(texts))
    names = {path.name for path in home.iterdir()}
    left = {"store.json", "state-1.ckpt", "features-0.cache", "store.lock", "training.lock"}
    assert names == left


def test_another_artifact_goes_on_if_its_state_is_the_same(
    artifact: Exported, jvm: JvmRunner, tmp_path: Path
) -> None:
    head, home = artifact("head"), tmp_path / "home"
    assert "PAUSED" in jvm.run(*command(head, home, "--stop-after", 5))
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    with pytest.raises(EngineError, match=r"state-1\.ckpt: belongs to another artifact: .*method"):
        jvm.run(*command(artifact("spartan"), home))
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before

    again = Path(shutil.copytree(head.path, tmp_path / "again.effine"))
    rename(again, "again")
    assert "PAUSED" in jvm.run(*command(Artifact.open(again), home, "--stop-after", 5))
    assert stored(home)["run"]["from"] == 1
    assert {path.name for path in home.glob("state-*")} == {"state-1.ckpt", "state-2.ckpt"}
    assert "ACCEPTED" in jvm.run(*command(Artifact.open(again), home))
    assert [path.name for path in home.glob("state-*")] == ["state-2.ckpt"]


def test_one_process_trains_at_a_time(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    arguments = command(artifact("head"), tmp_path / "home", "--epochs", 100_000)
    with subprocess.Popen([*jvm.command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("update 1")
            with pytest.raises(EngineError, match="an update is running already"):
                jvm.run(*arguments)
        finally:
            process.kill()


def stored(home: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((home / "store.json").read_text(encoding="utf-8"))
    return content
