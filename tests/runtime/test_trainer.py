"""Training on the programs of small artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import THINGS, Exported, Recorder, intents, pairs, scores, tags
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.errors import DataError
from effine.runtime.report import Report
from effine.runtime.run import Progress
from effine.runtime.trainer import Trainer
from training import FAST, UPDATES, same


class Faulty(Recorder):
    """Returns a loss that isn't finite for one update, or a state that isn't."""

    def __init__(self, artifact: Artifact, update: int, output: str) -> None:
        super().__init__(artifact)
        self.update, self.output = update, output
        self.before: Arrays = {}
        self.after: Arrays = {}

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        outputs = super().run(method, inputs)
        if not method.startswith("train_"):
            return outputs
        count = self.count("train_")
        if count == self.update:
            self.before = {name: np.array(inputs[name]) for name in outputs if name in inputs}
            broken = np.full_like(outputs[self.output], np.nan)
            return outputs | {self.output: broken}
        if count == self.update + 1:
            self.after = {name: np.array(inputs[name]) for name in self.before}
        return outputs


@pytest.mark.parametrize("method", ["head", "spartan", "read"])
def test_learns_a_separable_task(artifact: Exported, method: str) -> None:
    trainer = Trainer(artifact(method), threads=1)
    report = trainer.fit(intents(), eval=intents(3), epochs=40, head_rate=0.1)
    assert report.before["accuracy"] <= 0.5
    assert report.metrics["accuracy"] >= 0.95
    assert report.epochs[-1].loss < 0.3 * report.epochs[0].loss
    assert report.warnings == []
    assert trainer.evaluate(intents(3)) == report.metrics
    best = [p.label for p in trainer.predict([row["text"] for row in intents()])]
    right = np.mean([a == b["label"] for a, b in zip(best, intents(), strict=True)])
    assert right == pytest.approx(trainer.evaluate(intents())["accuracy"]) and right >= 0.9


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_learns_with_other_tokenizers(artifact: Exported, architecture: str) -> None:
    trainer = Trainer(artifact("head", architecture), threads=1)
    report = trainer.fit(intents(), eval=intents(), epochs=40, head_rate=0.1)
    assert report.metrics["accuracy"] >= 0.9
    assert trainer.predict(["🙂 lamp, 日本語!"])[0].label in THINGS


def test_learns_scores(artifact: Exported) -> None:
    trainer = Trainer(artifact("head", "bert", "regression"), threads=1)
    report = trainer.fit(scores(), eval=scores(), epochs=90, head_rate=0.1)
    assert report.metrics["pearson"] >= 0.9
    prediction = trainer.predict([scores()[0]["text"]])[0]
    assert prediction.label is None and prediction.probabilities == {}
    assert prediction.score == pytest.approx(scores()[0]["score"], abs=0.7)


def test_learns_several_labels(artifact: Exported, tmp_path: Path) -> None:
    trainer = Trainer(artifact("head", "bert", "multilabel"), threads=1)
    settings = {"epochs": 60, "head_rate": 0.2, "class_weights": "balanced"}
    report = trainer.fit(tags(), eval=tags(), checkpoint=tmp_path / "a", **settings)
    assert report.metrics["micro_f1"] >= 0.95 and report.metrics["macro_f1"] >= 0.95
    assert report.metrics["micro_f1"] > report.before["micro_f1"]
    assert report.warnings == []
    predictions = trainer.predict([row["text"] for row in tags()])
    for prediction in predictions:
        assert prediction.label is None and prediction.score is None
        assert list(prediction.probabilities) == trainer.labels == sorted(THINGS)
        above = {name for name, share in prediction.probabilities.items() if share > 0.5}
        assert set(prediction.labels) == above
    right = [
        set(p.labels) == set(row["labels"]) for p, row in zip(predictions, tags(), strict=True)
    ]
    assert np.mean(right) >= 0.9
    assert {len(p.labels) for p in predictions} == {0, 1, 2}


def test_a_label_is_added_to_several(artifact: Exported) -> None:
    trainer = Trainer(artifact("head", "bert", "multilabel"), threads=1)
    assert "new" not in trainer.predict(["lamp on"])[0].probabilities
    spare = trainer.state["head.weight"][3].copy()
    trainer.fit(tags(), epochs=2)
    assert abs(trainer.state["head.weight"][3] - spare).max() < 0.1
    trainer.add_label("new")
    rows = [row | {"labels": [*row["labels"], "new"]} for row in tags()]
    trainer.fit(rows, epochs=20, head_rate=0.1)
    assert all("new" in p.labels for p in trainer.predict([row["text"] for row in rows]))
    with pytest.raises(DataError, match="no spare row left"):
        trainer.add_label("newer")
    with pytest.raises(DataError, match="unknown label 'newest'"):
        trainer.fit([{"text": "a", "labels": ["newest"]}])


def test_pairs_and_single_texts_are_told_apart(artifact: Exported, head: Artifact) -> None:
    with pytest.raises(DataError, match="takes single texts, the data holds pairs"):
        Trainer(head, threads=1).fit(pairs())
    with pytest.raises(DataError, match="takes pairs"):
        Trainer(artifact("lora", "bert", "pair"), threads=1).fit(intents())


def test_the_same_seed_gives_the_same_state(head: Artifact) -> None:
    states = []
    for seed in (1, 1, 2):
        trainer = Trainer(head, threads=1)
        trainer.fit(intents(), seed=seed, **FAST)
        states.append(trainer.state)
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_fit_starts_afresh(head: Artifact) -> None:
    trainer = Trainer(head, threads=1)
    first = trainer.fit(intents(), **FAST)
    state = trainer.state
    assert trainer.fit(intents(), **FAST) == first
    assert same(trainer.state, state)


def test_one_text_and_many_are_predicted_alike(artifact: Exported) -> None:
    trainer = Trainer(artifact("spartan"), threads=1)
    trainer.fit(intents(), **FAST)
    texts = [row["text"] for row in intents()]
    for text, prediction in zip(texts, trainer.predict(texts), strict=True):
        alone = trainer.predict([text])[0]
        assert alone.label == prediction.label
        assert alone.probabilities == pytest.approx(prediction.probabilities, abs=1e-4)
        assert sum(alone.probabilities.values()) == pytest.approx(1)


def test_the_best_epoch_is_kept_and_patience_ends_training(
    head: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(head, threads=1)
    course = iter([0.2, 0.4, 0.9, 0.5, 0.9, 0.6, 0.7])
    states = []

    def metrics(data: object, logits: np.ndarray) -> dict[str, float]:
        states.append(dict(trainer.state))
        return {"accuracy": next(course)}

    monkeypatch.setattr(trainer._learner, "metrics", metrics)
    report = trainer.fit(intents(), eval=intents(3), patience=2, epochs=6, head_rate=0.01)
    assert report.before == {"accuracy": 0.2}
    assert [epoch.metrics["accuracy"] for epoch in report.epochs] == [0.4, 0.9, 0.5, 0.9]
    assert report.best_epoch == 2 and report.metrics == {"accuracy": 0.9}
    for entry in head.manifest.parameters:
        assert np.array_equal(trainer.state[entry.name], states[2][entry.name])
        assert not np.array_equal(trainer.state[entry.name], states[4][entry.name])


def test_without_keep_best_the_last_parameters_stay(
    head: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(head, threads=1)
    course = iter([0.1, 0.9, 0.5])
    monkeypatch.setattr(trainer._learner, "metrics", lambda *_: {"accuracy": next(course)})
    report = trainer.fit(intents(), eval=intents(3), epochs=2, keep_best=False)
    plain = Trainer(head, threads=1)
    plain.fit(intents(), epochs=2)
    assert report.best_epoch == 0 and report.metrics == {"accuracy": 0.5}
    assert same(trainer.state, plain.state)


def test_balanced_weights_reach_the_program(head: Artifact) -> None:
    class Weights(Recorder):
        def __init__(self, artifact: Artifact) -> None:
            super().__init__(artifact)
            self.totals = np.zeros(len(THINGS))

        def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
            if method.startswith("train_"):
                np.add.at(self.totals, inputs["labels"], inputs["example_weight"])
                assert inputs["weight_sum"][0] == inputs["example_weight"].sum(dtype=np.float32)
            return super().run(method, inputs)

    rare = [row for i, row in enumerate(intents()) if row["label"] != "lamp" or i < 4]
    for class_weights in (None, "balanced"):
        engine = Weights(head)
        Trainer(head, engine=engine).fit(rare, epochs=1, class_weights=class_weights)
        counts = np.bincount([head.manifest.task.labels.index(r["label"]) for r in rare])
        expected = np.full(3, len(rare) / 3) if class_weights else counts
        assert np.allclose(engine.totals, expected, rtol=1e-5)


@pytest.mark.parametrize("output", ["loss", "head.bias"])
def test_an_update_that_is_not_finite_is_discarded(head: Artifact, output: str) -> None:
    engine = Faulty(head, 3, output)
    trainer = Trainer(head, engine=engine)
    settings = trainer._run.settings
    orders = trainer._order(trainer._datasets(intents(), None, settings)[0], settings, 0)
    losses = []
    report = trainer.fit(intents(), epochs=1, callbacks=[lambda p: losses.append(p.loss)])
    assert report.discarded == [{"update": 3, "samples": orders[2]}]
    assert losses[2] is None and losses.count(None) == 1
    assert same(engine.before, engine.after)
    assert all(np.isfinite(array).all() for array in trainer.state.values())
    assert report.epochs[0].loss == pytest.approx(np.mean([v for v in losses[:-1] if v]), rel=1e-3)


def frozen_head(artifact: Artifact) -> str:
    found = artifact.manifest.frozen_head
    assert found is not None
    return f"a linear head on the frozen backbone reaches accuracy {found.score:.3f}"


def unbalanced() -> list[dict]:
    return [row for row in intents() if row["label"] == "music"] * 3 + intents()[:3]


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"head_rate": 0.0}, "the parameters didn't change"),
        ({"head_rate": 1e-6}, "the loss is flat"),
        ({"head_rate": 200.0, "schedule": "constant"}, "the loss rose"),
    ],
)
def test_training_that_does_not_learn_warns(head: Artifact, settings: dict, warning: str) -> None:
    report = Trainer(head, threads=1).fit(intents(), epochs=3, **settings)
    assert len(report.warnings) == 2
    assert warning in report.warnings[0]
    assert frozen_head(head) in report.warnings[1]


def test_one_label_for_everything_warns(head: Artifact) -> None:
    trainer = Trainer(head, threads=1)
    report = trainer.fit(unbalanced(), eval=intents(), epochs=2, head_rate=3e-3)
    assert {p.label for p in trainer.predict([r["text"] for r in intents()])} == {"music"}
    assert any("is the same label" in warning for warning in report.warnings)
    assert frozen_head(head) in report.warnings[-1]


def test_a_spare_label_is_learned_on_the_device(head: Artifact, tmp_path: Path) -> None:
    texts = [row["text"] for row in intents()]
    trainer = Trainer(head, threads=1)
    trainer.fit(intents(), epochs=40, head_rate=0.1)
    assert set(trainer.predict(texts[:1])[0].probabilities) == set(THINGS)
    renamed = [
        {"text": row["text"].replace(row["label"], "window"), "label": "window"}
        for row in intents()[:: len(THINGS)]
    ]
    with pytest.raises(DataError, match="unknown label 'window'"):
        trainer.continue_with(renamed)

    trainer.add_label("window")
    assert trainer.labels == [*THINGS[2:], *THINGS[:2], "window"]
    trainer.continue_with(intents() + renamed, epochs=40, head_rate=0.1)
    labels = [p.label for p in trainer.predict([row["text"] for row in renamed])]
    assert labels.count("window") >= 0.8 * len(renamed)
    kept = [p.label for p in trainer.predict(texts)]
    assert np.mean([a == row["label"] for a, row in zip(kept, intents(), strict=True)]) >= 0.8

    trainer.save(tmp_path / "c")
    loaded = Trainer(head, threads=1)
    loaded.load(tmp_path / "c")
    assert loaded.labels == trainer.labels
    assert loaded.predict(texts) == trainer.predict(texts)
    with pytest.raises(DataError, match="'window' exists already"):
        loaded.add_label("window")
    loaded.add_label("door")
    with pytest.raises(DataError, match=r"no spare row left for label 'gate'.*--spare-labels"):
        loaded.add_label("gate")


def test_spare_rows_get_no_probability_and_do_not_train(head: Artifact) -> None:
    trainer = Trainer(head, threads=1)
    trainer.fit(intents(), weight_decay=None, **FAST)
    spare = slice(len(THINGS), None)
    initial = head.initial_state()
    assert (trainer.state["head.bias"][spare] == initial["head.bias"][spare]).all()
    assert (initial["head.bias"][spare] < -1e3).all()
    assert np.abs(trainer.state["head.weight.exp_avg"][spare]).max() == 0


def test_a_very_long_text_is_truncated_and_counted(head: Artifact) -> None:
    long = {"text": "lamp " * 20_000, "label": "lamp"}
    assert len(long["text"]) == 100_000
    report = Trainer(head, threads=1).fit([*intents(), long], epochs=1)
    assert report.truncated == 1 and report.samples == 25


def test_callbacks_see_every_update_and_every_epoch(head: Artifact) -> None:
    seen: list[Progress] = []
    report = Trainer(head, threads=1).fit(
        intents(), eval=intents(3), callbacks=[seen.append], epochs=2
    )
    updates = [p for p in seen if p.metrics is None]
    assert [p.update for p in updates] == list(range(1, 2 * UPDATES + 1))
    assert {p.total for p in seen} == {2 * UPDATES}
    assert [p.epoch for p in updates] == [1] * UPDATES + [2] * UPDATES
    assert [p.metrics for p in seen if p.metrics] == [e.metrics for e in report.epochs]
    assert Report.from_dict(report.to_dict()) == report
