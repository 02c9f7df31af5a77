"""Updates from the summed gradients of several batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import BATCH, Exported, Recorder, intents
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.errors import ArtifactError
from effine.runtime.run import Progress
from effine.runtime.trainer import Trainer

SETTINGS = {"epochs": 3, "schedule": "constant", "class_weights": "balanced", "head_rate": 0.01}
SHORT = intents()[:-3]


@pytest.fixture
def summing(artifact: Exported) -> Artifact:
    return artifact("head", accumulate=2)


def test_two_batches_equal_one_of_twice_the_size(artifact: Exported, summing: Artifact) -> None:
    """The last update has fewer samples than the others."""
    whole, parts = Trainer(artifact("head"), threads=1), Trainer(summing, threads=1)
    expected = whole.fit(SHORT, **SETTINGS)
    report = parts.fit(SHORT, **SETTINGS)
    for epoch, wanted in zip(report.epochs, expected.epochs, strict=True):
        assert epoch.loss == pytest.approx(wanted.loss, rel=1e-6)
    for entry in summing.manifest.parameters:
        first, second = whole.state[entry.name], parts.state[entry.name]
        assert np.abs(first - second).max() <= 1e-6 * max(1.0, np.abs(first).max())


def test_the_programs_that_sum_up_are_used(summing: Artifact) -> None:
    engine = Recorder(summing)
    Trainer(summing, engine=engine).fit(SHORT, epochs=1, accumulate=3)
    assert engine.count("accumulate_") == -(-len(SHORT) // (BATCH // 2))
    assert engine.count("apply_") == -(-len(SHORT) // (3 * BATCH // 2))
    assert engine.count("train_") == 0


def test_one_batch_an_update_needs_no_sums(summing: Artifact) -> None:
    engine = Recorder(summing)
    Trainer(summing, engine=engine).fit(SHORT, epochs=1, accumulate=1)
    assert engine.count("accumulate_") == 0 and engine.count("train_") > 0


def test_resume_is_bit_exact(summing: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    whole, part = Trainer(summing, threads=1), Trainer(summing, threads=1)
    whole.fit(SHORT, **SETTINGS)

    def stop(progress: Progress) -> None:
        if progress.update == 7:
            part.cancel()

    part.fit(SHORT, checkpoint=path, callbacks=[stop], **SETTINGS)
    resumed = Trainer(summing, threads=1)
    resumed.resume(path, SHORT)
    assert all(resumed.state[n].tobytes() == a.tobytes() for n, a in whole.state.items())


class Faulty(Recorder):
    """Returns gradient sums that aren't finite, once."""

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        outputs = super().run(method, inputs)
        if method.startswith("accumulate_") and self.count("accumulate_") == 3:
            return {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        return outputs


def test_an_update_with_one_bad_batch_is_discarded_whole(summing: Artifact) -> None:
    trainer = Trainer(summing, engine=Faulty(summing))
    report = trainer.fit(SHORT, epochs=1)
    assert [entry["update"] for entry in report.discarded] == [2]
    assert len(report.discarded[0]["samples"]) == BATCH
    assert all(np.isfinite(array).all() for array in trainer.state.values())


def test_without_the_programs_it_is_refused(artifact: Exported) -> None:
    with pytest.raises(ArtifactError, match=r"--accumulate 2: .* export with --accumulate"):
        Trainer(artifact("head"), threads=1).fit(SHORT, accumulate=2)
