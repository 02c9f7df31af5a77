"""What the Kotlin SDK has beyond what every host does: texts, evaluation data, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import DATA, ON_TOKENS, Exported, Rows, intents, pairs, tags
from commands import write
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.tasks.question_answering import FoundAnswer
from effine.runtime.tasks.token_classification import TaggedText
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from runs import SETTINGS, Both
from training import UPDATES

pytest_plugins = "runners"


@pytest.fixture
def head(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> Both:
    return Both(artifact("head"), jvm, tmp_path, intents())


@pytest.fixture
def adapter(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> Both:
    """With layers below the cut."""
    return Both(artifact("adapter"), jvm, tmp_path, intents())


def test_a_run_from_texts_is_the_same(head: Both, tmp_path: Path) -> None:
    """Tokenized, weighed and fingerprinted in Kotlin."""
    head.tokens = write(tmp_path / "data.jsonl", [*head.data, {"text": "", "label": "lamp"}])
    Trainer(head.artifact, threads=1).fit(head.tokens, checkpoint=head.python, **SETTINGS)
    head.train_host(**SETTINGS)
    assert head.same()


def test_pairs_from_texts_are_the_same(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    rows = pairs()
    rows[0] |= {"text": "lamp on " * 20}
    both = Both(artifact("head", "bert", "pair"), jvm, tmp_path, rows)
    both.tokens = write(tmp_path / "data.jsonl", rows)
    both.train_python(**SETTINGS)
    both.train_host(**SETTINGS)
    assert both.same()


def test_evaluation_data_decide_the_same(head: Both, tmp_path: Path) -> None:
    """Metrics, the best epoch and the end of patience; a run that is resumed keeps them."""
    dev, tokens = intents(1)[:10], tmp_path / "dev.tokens"
    write_tokens(tokens, head.artifact, dev)
    settings = {"epochs": 6, "head_rate": 0.3, "patience": 2, "seed": 5}
    Trainer(head.artifact, threads=1).fit(head.data, eval=dev, checkpoint=head.python, **settings)
    head.train_host("--eval", tokens, **settings)
    assert head.same()
    head.train_host("--eval", tokens, "--stop-after", str(UPDATES + 1), **settings)
    assert not head.same()
    head.train_host("--eval", tokens, "--resume")
    assert head.same()


def test_predictions_agree(head: Both) -> None:
    trainer = head.train_python(**SETTINGS)
    printed = head.host.run(
        *("predict", head.artifact.path, "--data", head.tokens, "--state", head.python),
        *("--threads", "1"),
    )
    found = [line.split("\t") for line in printed.splitlines()]
    expected = trainer.predict([row["text"] for row in head.data])
    assert [label for label, _ in found] == [prediction.label for prediction in expected]
    np.testing.assert_allclose(
        [float(share) for _, share in found],
        [prediction.probabilities[prediction.label or ""] for prediction in expected],
        rtol=1e-12,
    )


def test_the_backbone_runs_once_for_each_sample(adapter: Both, tmp_path: Path) -> None:
    """From texts, beside evaluation data, with the cache; and never for a cache that is there."""
    adapter.tokens, dev = write(tmp_path / "data.jsonl", adapter.data), tmp_path / "dev.jsonl"
    write(dev, intents(1)[:10])
    cache, theirs = tmp_path / "kotlin.cache", tmp_path / "python.cache"
    settings: dict[str, Any] = {**SETTINGS, "cache_precision": "int8"}
    Trainer(adapter.artifact, threads=1, cache=theirs).fit(
        adapter.tokens, eval=dev, checkpoint=adapter.python, **settings
    )
    options = ("--eval", dev, "--cache", cache)
    printed = adapter.train_host(*options, **settings)
    distinct = {row["text"] for row in (*adapter.data, *intents(1)[:10])}
    assert f"backbone: {len(distinct)} calls" in printed
    assert adapter.same() and cache.read_bytes() == theirs.read_bytes()
    assert "backbone: 0 calls" in adapter.train_host(*options, **settings)
    assert adapter.same() and cache.read_bytes() == theirs.read_bytes()


def test_several_labels_from_texts(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "multilabel"), jvm, tmp_path, tags())
    both.tokens = write(tmp_path / "data.jsonl", tags())
    trainer = Trainer(both.artifact, threads=1)
    trainer.fit(both.tokens, eval=both.tokens, checkpoint=both.python, **SETTINGS)
    both.train_host("--eval", both.tokens, **SETTINGS)
    assert both.same()


def odd_rows(task: str) -> Rows:
    """Texts that are too long, answers to words of several scripts, words without a token."""
    if task == "token-classification":
        words = [
            "lamp",
            "\u200b",
            "New York",
            "\x1c\U0001f600",
            "ΟΔΟΣ",
            "l\u00a0amp",
            "e\u0301t\u00e9",
        ]
        marks = ["B-lamp", "O", "B-place", "I-place", "B-time", "I-time", "O"]
        return [{"tokens": words * n, "tags": marks * n} for n in (1, 4)]
    context = "\U0001f600 the ΟΔΟΣ, in a  \u0130stanbul caf\u00e9! an answer\x1c is far off, " * 3
    found = ("ΟΔΟΣ, in a", "\u0130stanbul caf\u00e9!", "an answer\x1c is", "the")
    answers = [{"text": text, "start": context.index(text)} for text in found]
    later = {"text": "far off", "start": context.rindex("far off")}
    question = "where is the \U0001f600 " * 4
    return [
        {"question": question, "context": context, "answers": answers},
        {"question": "how far?", "context": context, "answers": [later, *answers]},
        {"question": "the", "context": "\u200b", "answers": [{"text": "\u200b", "start": 0}]},
    ]


@pytest.mark.parametrize("task", ON_TOKENS)
def test_tasks_on_tokens(artifact: Exported, jvm: JvmRunner, tmp_path: Path, task: str) -> None:
    """Interrupted, with evaluation data, and what is then predicted."""
    rows = [*DATA[task](), *odd_rows(task)]
    both = Both(artifact("head", "bert", task), jvm, tmp_path, rows)
    settings = SETTINGS | {"head_rate": 0.2}
    dev = write(tmp_path / "dev.jsonl", rows[::-3])
    trainer = Trainer(both.artifact, threads=1)
    report = trainer.fit(both.tokens, eval=dev, checkpoint=both.python, **settings)
    assert report.samples >= len(rows) and report.truncated and report.metrics != report.before
    both.train_host("--eval", dev, "--stop-after", str(UPDATES), **settings)
    assert not both.same()
    both.train_host("--eval", dev, "--resume")
    assert both.same()
    printed = both.host.run(
        *("predict", both.artifact.path, "--data", both.tokens, "--state", both.python),
        *("--threads", "1"),
    )
    expected = [shown(found) for found in trainer.predict(both.tokens)]
    for line, wanted in zip(printed.rstrip("\n").split("\n"), expected, strict=True):
        found = line.split("\t")
        *exact, shares = wanted
        assert found[: len(exact)] == exact
        np.testing.assert_allclose(
            [float(share) for share in found[len(exact)].split("|") if share != "null"],
            shares,
            rtol=1e-12,
        )


def shown(found: object) -> list[object]:
    """What the runner prints: columns, the last one with probabilities."""
    if isinstance(found, FoundAnswer):
        return [found.text, str(found.start), str(found.end), [found.probability]]
    assert isinstance(found, TaggedText)
    spans = [f"{e.label}:{e.start}:{e.end}:{e.text}" for e in found.entities]
    tagged = [word.tag for word in found.words]
    shares = [word.probability for word in found.words if word.probability is not None]
    return ["|".join(tagged), "|".join(spans), shares]
