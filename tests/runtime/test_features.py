"""What trainers compute, keep and round of the backbone's features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import BATCH, Exported, Recorder, intents
from effine.runtime.artifact import Artifact
from effine.runtime.break_even import Speed
from effine.runtime.dataset import load_dataset
from effine.runtime.engines import Arrays
from effine.runtime.features import FeatureSource
from effine.runtime.run import Progress
from effine.runtime.trainer import Trainer
from training import same


@pytest.mark.parametrize("method", ["head", "read"])
def test_the_backbone_sees_each_sample_once(
    artifact: Exported, tmp_path: Path, method: str
) -> None:
    exported = artifact(method)
    engine = Recorder(exported)
    trainer = Trainer(exported, engine=engine, cache=tmp_path / "features")
    dev = [{"text": f"{row['text']} dev", "label": row["label"]} for row in intents()[:9]]
    report = trainer.fit(intents(), eval=dev, epochs=4)
    assert engine.count("backbone_") == len(intents()) + len(dev)
    assert report.uncached == 0
    trainer.predict([row["text"] for row in intents()])
    assert engine.count("backbone_") == len(intents()) + len(dev)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("method", ["head", "read"])
def test_the_cache_changes_nothing(
    artifact: Exported, tmp_path: Path, method: str, precision: str
) -> None:
    exported = artifact(method, pooling="mean")
    assert exported.manifest.shapes.seqs == (8, 16)
    states, reports, calls, checkpoints = [], [], [], []
    whole, bounded = tmp_path / "whole", tmp_path / "bounded"
    for cache in (whole, bounded, False, True, whole):
        engine = Recorder(exported)
        bound = whole.stat().st_size // 2 if cache == bounded else 2**30
        trainer = Trainer(exported, engine=engine, cache=cache, cache_bound=bound)
        report = trainer.fit(
            intents(),
            eval=intents(3),
            epochs=3,
            cache_precision=precision,
            checkpoint=tmp_path / "c",
        )
        states.append(trainer.state)
        reports.append(report)
        checkpoints.append((tmp_path / "c").read_bytes())
        calls.append(engine.count("backbone_"))
    assert all(same(state, states[0]) for state in states)
    assert all(report == reports[0] for report in reports)
    assert all(checkpoint == checkpoints[0] for checkpoint in checkpoints)
    assert calls[0] == 48 < calls[1] < calls[2] and calls[4] == 0
    assert [report.uncached > 0 for report in reports] == [False, True, False, False, False]
    assert reports[1].uncached < 48 and bounded.stat().st_size <= whole.stat().st_size // 2
    assert reports[0].cache.startswith(f"cache: {precision}, 0.")
    assert " MB for 48 samples, saves " in reports[0].cache
    assert " of 48 samples, saves " in reports[1].cache
    assert reports[2].cache == "cache: none, it is switched off"
    assert "holds all 48 samples" in reports[4].cache


def test_features_are_rounded_to_the_precision(artifact: Exported) -> None:
    exported = artifact("read", pooling="mean")
    seen: dict[str, list[Arrays]] = {}
    for precision in ("fp32", "fp16", "int8"):
        engine = Recorder(exported)
        trainer = Trainer(exported, engine=engine, cache=False)
        trainer.fit(intents(), epochs=1, cache_precision=precision)
        tokens = load_dataset(exported, intents(), trainer.labels).tokens[:BATCH]
        seen[precision] = trainer._learner.features.batch(tokens, BATCH, 16)
    for name, exact in seen["fp32"].items():
        if name == "attention_mask":
            continue
        half = exact.astype(np.float16).astype(np.float32)
        assert np.array_equal(seen["fp16"][name], half) and not np.array_equal(half, exact)
        padding = seen["fp32"]["attention_mask"] == 0
        assert padding.any() and not exact[padding].any()
        step = np.abs(exact).max(axis=-1, keepdims=True) / 127
        error = np.abs(seen["int8"][name] - exact)
        assert (error <= 0.501 * step).all() and error.max() > 0


@pytest.mark.parametrize(
    ("method", "precision"), [("adapter", "fp32"), ("lora", "fp32"), ("spartan", "int8")]
)
def test_programs_ignore_the_features_of_padding(
    artifact: Exported, method: str, precision: str
) -> None:
    """The cache drops them and gives zeros back."""
    exported = artifact(method, precision=precision)
    outputs = []

    class Edge(Recorder):
        def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
            if method.startswith("train_") and not outputs:
                for noise in (0.0, 1.0):
                    padding = noise * (1.0 - inputs["attention_mask"].astype(np.float32))
                    changed = inputs["hidden"] + padding[:, :, None]
                    outputs.append(super().run(method, {**inputs, "hidden": changed}))
            return super().run(method, inputs)

    Trainer(exported, engine=Edge(exported), cache=False).fit(intents(), epochs=1)
    for name, expected in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_what_is_cached_is_decided_and_told_before_training(
    artifact: Exported, head: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def train(exported: Artifact, epochs: int) -> tuple[str, bool]:
        trainer = Trainer(exported, threads=1, notify=told.append)

        def before_any_update(_: Progress) -> None:
            assert told

        told.clear()
        report = trainer.fit(intents(), callbacks=[before_any_update], epochs=epochs)
        assert told == [report.cache]
        return report.cache, trainer._learner.features.cache is not None

    below = artifact("spartan").manifest.method_info.layers_below
    assert below == 0
    line, cached = train(artifact("spartan"), 2)
    assert line == "cache: none, no encoder layer lies below the cut" and not cached
    line, cached = train(head, 1)
    assert line == "cache: none, features are needed only once" and not cached
    for speed, expected in ((Speed(1.0, 1e-9, 1e-9), True), (Speed(1e-9, 1.0, 1.0), False)):
        monkeypatch.setattr(FeatureSource, "_measure", lambda *_, speed=speed: speed)
        line, cached = train(head, 3)
        assert cached == expected
        assert line.startswith("cache: fp32, 0." if expected else "cache: not used: fp32, 0.")
        assert line.endswith("saves nothing of 0.00 s over 3 epochs") != expected
