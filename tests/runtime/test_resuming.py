"""Runs that go on: resumed, continued, saved and loaded, killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, Recorder, intents
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.errors import CheckpointError, IncompatibleCheckpoint
from effine.runtime.trainer import Trainer
from training import FAST, UPDATES, same, stop_at


@pytest.mark.parametrize("method", ["head", "spartan"])
@pytest.mark.parametrize("update", [1, UPDATES + 2, 2 * UPDATES])
def test_resume_is_bit_exact(artifact: Exported, tmp_path: Path, method: str, update: int) -> None:
    settings = {"epochs": 4, "head_rate": 0.05, "schedule": "cosine", "warmup": 0.2, "seed": 3}
    whole = Trainer(artifact(method), threads=1)
    expected = whole.fit(intents(), eval=intents(3), checkpoint=tmp_path / "whole", **settings)

    path = tmp_path / "broken"
    stopped = Trainer(artifact(method), threads=1)
    partial = stopped.fit(
        intents(),
        eval=intents(3),
        checkpoint=path,
        callbacks=[stop_at(stopped, update)],
        **settings,
    )
    assert partial.cancelled
    assert len(partial.epochs) == (update - 1) // UPDATES or update % UPDATES == 0

    resumed = Trainer(artifact(method), threads=1)
    report = resumed.resume(path, intents(), eval=intents(3))
    assert report == expected
    assert same(resumed.state, whole.state)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_finished_run_resumes_to_itself(head: Artifact, tmp_path: Path) -> None:
    trainer = Trainer(head, threads=1)
    report = trainer.fit(intents(), eval=intents(3), checkpoint=tmp_path / "c", **FAST)
    engine = Recorder(head)
    again = Trainer(head, engine=engine)
    assert again.resume(tmp_path / "c", intents(), eval=intents(3)) == report
    assert engine.count("train_") == 0
    assert same(again.state, trainer.state)


def test_resume_refuses_what_differs(artifact: Exported, head: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "c"
    stopped = Trainer(head, threads=1)
    stopped.fit(
        intents(), eval=intents(3), checkpoint=path, callbacks=[stop_at(stopped, 4)], **FAST
    )
    before = path.read_bytes()
    trainer = Trainer(head, threads=1)
    for data, dev, settings, message in (
        (intents()[1:], intents(3), {}, "the data are not those"),
        (intents()[::-1], intents(3), {}, "the data are not those"),
        (intents(), None, {}, "the data are not those"),
        (intents(), intents(3), {"seed": 5}, "setting seed.*0 there, 5 here"),
        (intents(), intents(3), {"epochs": 9}, "setting epochs.*8 there, 9 here"),
        (intents(), intents(3), {"class_weights": "balanced"}, "setting class_weights"),
    ):
        with pytest.raises(CheckpointError, match=message):
            trainer.resume(path, data, eval=dev, **settings)
    with pytest.raises(IncompatibleCheckpoint, match="method"):
        Trainer(artifact("spartan"), threads=1).resume(path, intents(), eval=intents(3))
    assert path.read_bytes() == before


def test_continue_keeps_parameters_and_forgets_moments(head: Artifact, tmp_path: Path) -> None:
    first = Trainer(head, threads=1)
    learned = first.fit(intents(), eval=intents(3), **FAST).metrics
    first.save(tmp_path / "c")

    class FirstUpdate(Recorder):
        seen: Arrays = {}

        def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
            if method.startswith("train_") and not self.seen:
                self.seen = {name: np.array(array) for name, array in inputs.items()}
            return super().run(method, inputs)

    engine = FirstUpdate(head)
    trainer = Trainer(head, engine=engine)
    trainer.load(tmp_path / "c")
    report = trainer.continue_with(intents(1), eval=intents(3), epochs=2)
    assert report.before == learned
    assert len(report.epochs) == 2
    assert engine.seen["step"] == 1
    for entry in head.manifest.state:
        expected = first.state[entry.name] * (entry.role == "parameter")
        assert np.array_equal(engine.seen[entry.name], expected), entry.name


def test_a_saved_model_predicts_the_same(head: Artifact, tmp_path: Path) -> None:
    trainer = Trainer(head, threads=1)
    trainer.fit(intents(), **FAST)
    trainer.save(tmp_path / "c")
    loaded = Trainer(head, threads=1)
    texts = [row["text"] for row in intents(2)]
    assert loaded.predict(texts) != trainer.predict(texts)
    loaded.load(tmp_path / "c")
    assert loaded.predict(texts) == trainer.predict(texts)
    loaded.save(tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_resumption_keeps_the_precision(head: Artifact, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "c"
    Trainer(head, threads=1).fit(intents(), epochs=2, checkpoint=whole, cache_precision="int8")
    stopped = Trainer(head, threads=1)
    settings = {"epochs": 2, "cache_precision": "int8"}
    stopped.fit(intents(), checkpoint=path, callbacks=[stop_at(stopped, 4)], **settings)
    with pytest.raises(CheckpointError, match='setting cache_precision \\("int8" there, "fp16"'):
        Trainer(head, threads=1).resume(path, intents(), cache_precision="fp16")
    with pytest.raises(CheckpointError, match='setting cache_precision \\("int8" there, "fp32"'):
        Trainer(head, threads=1).resume(path, intents(), cache_precision="fp32")
    report = Trainer(head, threads=1).resume(path, intents())
    assert "int8" in report.cache
    assert path.read_bytes() == whole.read_bytes()


def test_killing_training_50_times_changes_nothing(head: Artifact, tmp_path: Path) -> None:
    script = Path(__file__).with_name("kill_training.py")
    paths = os.pathsep.join([str(script.parents[1]), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, str(script), str(head.path), str(tmp_path), "50", "7"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    killed, midway, rounds, _ = done.stdout.split()
    assert int(killed) == 50
    assert int(midway) >= 10, "too few kills hit a run with a checkpoint"
    assert int(rounds) >= 1
