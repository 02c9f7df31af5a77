"""Training in Kotlin: the same run as in Python, to the last bit, from either side's checkpoint."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import BATCH, Exported, Rows, intents, pairs, scores, tags
from commands import write
from effine.runtime.artifact import Artifact
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.errors import EngineError
from effine.runtime.run import Progress
from effine.runtime.tensors import read_tensors, write_tensors
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer

pytest_plugins = "jvm_runner"
SETTINGS = {"epochs": 4, "head_rate": 0.05, "schedule": "cosine", "warmup": 0.2, "seed": 3}
UPDATES = math.ceil(len(intents()) / BATCH)


class Both:
    """The same run in Python and in Kotlin, each with a checkpoint of its own."""

    def __init__(self, artifact: Artifact, runner: JvmRunner, folder: Path, data: Rows) -> None:
        self.artifact, self.runner, self.data = artifact, runner, data
        self.python, self.kotlin = folder / "python.ckpt", folder / "kotlin.ckpt"
        self.tokens = folder / "data.tokens"
        write_tokens(self.tokens, artifact, data)

    def train_python(self, stop: int | None = None, **settings: Any) -> Trainer:
        trainer = Trainer(self.artifact, threads=1)

        def callback(progress: Progress) -> None:
            if progress.update == stop:
                trainer.cancel()

        trainer.fit(self.data, checkpoint=self.python, callbacks=[callback], **settings)
        return trainer

    def train_kotlin(self, *options: str | Path, **settings: Any) -> str:
        for name, value in settings.items():
            options += (f"--{name.replace('_', '-')}", str(value))
        command = ("train", self.artifact.path, "--data", self.tokens, "--out", self.kotlin)
        return self.runner.run(*command, "--threads", "1", *options)

    def same(self) -> bool:
        return self.python.read_bytes() == self.kotlin.read_bytes()


@pytest.fixture
def head(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> Both:
    return Both(artifact("head"), jvm, tmp_path, intents())


@pytest.mark.parametrize("method", ["head", "spartan", "read", "adapter"])
def test_a_run_is_the_same_in_both(
    artifact: Exported, jvm: JvmRunner, tmp_path: Path, method: str
) -> None:
    both = Both(artifact(method), jvm, tmp_path, intents())
    both.train_python(**SETTINGS)
    printed = both.train_kotlin(**SETTINGS)
    assert both.same()
    assert printed.count("epoch ") == 4 and "warning" not in printed


def test_a_run_with_accumulated_gradients_is_the_same_in_both(
    artifact: Exported, jvm: JvmRunner, tmp_path: Path
) -> None:
    both = Both(artifact("head", accumulate=2), jvm, tmp_path, intents()[:-3])
    both.train_python(**SETTINGS)
    both.train_kotlin(**SETTINGS)
    assert both.same()
    both.train_python(accumulate=3, epochs=1)
    both.train_kotlin(accumulate=3, epochs=1)
    assert both.same()


def test_accumulation_that_was_not_exported_is_refused(head: Both) -> None:
    with pytest.raises(EngineError, match=r"accumulate 3: .* export with --accumulate"):
        head.train_kotlin(accumulate=3)


def test_several_labels_are_the_same(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    """From token ids and from texts, with evaluation data."""
    both = Both(artifact("head", "bert", "multilabel"), jvm, tmp_path, tags())
    both.train_python(**SETTINGS)
    both.train_kotlin(**SETTINGS)
    assert both.same()
    both.tokens = write(tmp_path / "data.jsonl", tags())
    trainer = Trainer(both.artifact, threads=1)
    trainer.fit(both.tokens, eval=both.tokens, checkpoint=both.python, **SETTINGS)
    both.train_kotlin("--eval", both.tokens, **SETTINGS)
    assert both.same()


@pytest.mark.parametrize(("method", "update"), [("head", UPDATES + 2), ("spartan", 2 * UPDATES)])
def test_either_resumes_what_the_other_began(
    artifact: Exported, jvm: JvmRunner, tmp_path: Path, method: str, update: int
) -> None:
    both = Both(artifact(method), jvm, tmp_path, intents())
    both.train_python(**SETTINGS)
    whole = both.python.read_bytes()

    both.train_python(stop=update, **SETTINGS)
    both.train_kotlin("--stop-after", str(update), **SETTINGS)
    assert both.same() and both.python.read_bytes() != whole

    swapped = tmp_path / "swapped"
    shutil.move(both.python, swapped)
    shutil.move(both.kotlin, both.python)
    shutil.move(swapped, both.kotlin)
    Trainer(both.artifact, threads=1).resume(both.python, both.data)
    both.train_kotlin("--resume")
    assert both.python.read_bytes() == both.kotlin.read_bytes() == whole


def test_a_run_from_texts_is_the_same(head: Both, tmp_path: Path) -> None:
    """Tokenized, weighed and fingerprinted in Kotlin."""
    head.tokens = write(tmp_path / "data.jsonl", [*head.data, {"text": "", "label": "lamp"}])
    Trainer(head.artifact, threads=1).fit(head.tokens, checkpoint=head.python, **SETTINGS)
    head.train_kotlin(**SETTINGS)
    assert head.same()


def test_pairs_from_texts_are_the_same(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    rows = pairs()
    rows[0] |= {"text": "lamp on " * 20}
    both = Both(artifact("head", "bert", "pair"), jvm, tmp_path, rows)
    both.tokens = write(tmp_path / "data.jsonl", rows)
    both.train_python(**SETTINGS)
    both.train_kotlin(**SETTINGS)
    assert both.same()


def test_evaluation_data_decide_the_same(head: Both, tmp_path: Path) -> None:
    """Metrics, the best epoch and the end of patience; a run that is resumed keeps them."""
    dev, tokens = intents(1)[:10], tmp_path / "dev.tokens"
    write_tokens(tokens, head.artifact, dev)
    settings = {"epochs": 6, "head_rate": 0.3, "patience": 2, "seed": 5}
    Trainer(head.artifact, threads=1).fit(head.data, eval=dev, checkpoint=head.python, **settings)
    head.train_kotlin("--eval", tokens, **settings)
    assert head.same()
    head.train_kotlin("--eval", tokens, "--stop-after", str(UPDATES + 1), **settings)
    assert not head.same()
    head.train_kotlin("--eval", tokens, "--resume")
    assert head.same()


def test_labels_and_weights_of_the_data_count(head: Both) -> None:
    """A label that was added on the device, and class weights that don't sum up exactly."""
    name = 'naïve "π"\t\x7f\\'
    head.data = [*intents()[:17], {"text": "open the window", "label": name}]
    trainer = Trainer(head.artifact, threads=1)
    trainer.add_label(name)
    trainer.fit(head.data, checkpoint=head.python, class_weights="balanced", **SETTINGS)
    write_tokens(
        head.tokens, head.artifact, head.data, labels=trainer.labels, class_weights="balanced"
    )
    head.train_kotlin("--add-label", name, **SETTINGS)
    assert head.same()


@pytest.mark.parametrize("rate", [1e-05, 1e30])
def test_updates_that_are_not_finite_are_discarded(head: Both, rate: float) -> None:
    settings = {"epochs": 2, "head_rate": rate, "seed": 2**64 - 1}
    trainer = head.train_python(**settings)
    head.train_kotlin(**settings)
    assert head.same()
    assert bool(trainer.load(head.kotlin).report["discarded"]) == (rate > 1)


def test_scores(artifact: Exported, jvm: JvmRunner, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "regression"), jvm, tmp_path, scores())
    both.train_python(**SETTINGS)
    both.train_kotlin(**SETTINGS)
    assert both.same()


def test_predictions_agree(head: Both) -> None:
    trainer = head.train_python(**SETTINGS)
    printed = head.runner.run(
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


def test_a_resumption_with_something_else_is_refused(head: Both, artifact: Exported) -> None:
    head.train_kotlin("--stop-after", "3", **SETTINGS)
    before = head.kotlin.read_bytes()
    with pytest.raises(EngineError, match=r"setting epochs \(4 there, 5 here\); use the same"):
        head.train_kotlin("--resume", epochs=5)
    write_tokens(head.tokens, head.artifact, intents()[1:])
    with pytest.raises(EngineError, match="the data are not those of the interrupted run"):
        head.train_kotlin("--resume")
    other = artifact("spartan")
    write_tokens(head.tokens, other, intents())
    head.artifact = other
    with pytest.raises(EngineError, match=r"another artifact: .*method .*state layout"):
        head.train_kotlin("--resume")
    assert head.kotlin.read_bytes() == before


def test_a_run_with_rounded_features_is_refused(head: Both) -> None:
    head.train_python(stop=3, cache_precision="int8", **SETTINGS)
    shutil.move(head.python, head.kotlin)
    with pytest.raises(EngineError, match=r"kotlin\.ckpt: cache_precision 'int8': .* in Python"):
        head.train_kotlin("--resume")


def test_damaged_files_are_refused(head: Both) -> None:
    head.train_kotlin("--stop-after", "3", **SETTINGS)
    content = bytearray(head.kotlin.read_bytes())
    content[-1] ^= 1
    head.kotlin.write_bytes(content)
    with pytest.raises(EngineError, match=r"kotlin\.ckpt: damaged: .* sha256"):
        head.train_kotlin("--resume")
    head.kotlin.write_bytes(content[:100])
    with pytest.raises(EngineError, match=r"kotlin\.ckpt: not a usable safetensors file"):
        head.train_kotlin("--resume")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("offsets", np.arange(25, dtype=np.int64)[::-1], "don't belong together"),
        ("weights", np.ones(3, np.float32), "don't belong together"),
        ("labels", np.full(24, 3, np.int64), "a label is unknown"),
        ("labels", np.full(24, 3, np.float32), "expected int64, found float32"),
        ("tokenizer", "0" * 64, "another tokenizer or length"),
        ("labels", '["alarm"]', "its labels don't continue the artifact's"),
        ("schema", "2", "not a tokens file of schema 1"),
    ],
)
def test_unusable_tokens_are_refused(head: Both, name: str, value: Any, problem: str) -> None:
    tensors, metadata = read_tensors(head.tokens)
    changed: dict[str, Any] = metadata if isinstance(value, str) else tensors
    changed[name] = value
    write_tensors(head.tokens, tensors, metadata)
    with pytest.raises(EngineError, match=rf"data\.tokens: .*{problem}.*; write it again"):
        head.train_kotlin()
