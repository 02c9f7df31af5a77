"""Training in C++ and in Kotlin: the same run as in Python, to the last bit, from either side's
checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import PHASED, Exported, intents, scores, tags
from effine.export.methods import known_methods
from effine.runtime.codec import seal
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.identity import state_id
from effine.runtime.tensors import read_tensors, write_tensors
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from runners import Host
from runs import SETTINGS, Both
from training import UPDATES

pytest_plugins = "runners"


@pytest.fixture
def head(artifact: Exported, host: Host, tmp_path: Path) -> Both:
    return Both(artifact("head"), host, tmp_path, intents())


OFTEN = ("head", "spartan", "read")
METHODS = [
    pytest.param(name, marks=[] if name in OFTEN else pytest.mark.matrix)
    for name in known_methods()
    if name not in PHASED
]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_the_same_in_both(
    artifact: Exported, host: Host, tmp_path: Path, method: str
) -> None:
    both = Both(artifact(method), host, tmp_path, intents())
    both.train_python(**SETTINGS)
    printed = both.train_host(**SETTINGS)
    assert both.same()
    assert printed.count("epoch ") == 4 and "warning" not in printed


def test_a_run_with_accumulated_gradients_is_the_same_in_both(
    artifact: Exported, host: Host, tmp_path: Path
) -> None:
    both = Both(artifact("head", accumulate=2), host, tmp_path, intents()[:-3])
    both.train_python(**SETTINGS)
    both.train_host(**SETTINGS)
    assert both.same()
    both.train_python(accumulate=3, epochs=1)
    both.train_host(accumulate=3, epochs=1)
    assert both.same()


def test_accumulation_that_was_not_exported_is_refused(head: Both) -> None:
    with pytest.raises(EngineError, match=r"accumulate 3: .* export with --accumulate"):
        head.train_host(accumulate=3)


@pytest.mark.parametrize(
    ("method", "update"),
    [("head", 1), ("head", UPDATES + 2), ("spartan", UPDATES + 2), ("spartan", 2 * UPDATES)],
)
def test_either_resumes_what_the_other_began(
    artifact: Exported, host: Host, tmp_path: Path, method: str, update: int
) -> None:
    both = Both(artifact(method), host, tmp_path, intents())
    both.train_python(**SETTINGS)
    whole = both.python.read_bytes()

    both.train_python(stop=update, **SETTINGS)
    both.train_host("--stop-after", str(update), **SETTINGS)
    assert both.same() and both.python.read_bytes() != whole

    swapped = tmp_path / "swapped"
    shutil.move(both.python, swapped)
    shutil.move(both.other, both.python)
    shutil.move(swapped, both.other)
    Trainer(both.artifact, threads=1).resume(both.python, both.data)
    both.train_host("--resume")
    assert both.python.read_bytes() == both.other.read_bytes() == whole


def test_phases_without_a_policy_here_are_not_trained(
    artifact: Exported, host: Host, tmp_path: Path
) -> None:
    both = Both(artifact("gates"), host, tmp_path, intents())
    path = tmp_path / "newer.effine"
    shutil.copytree(both.artifact.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["method"]["name"] = "newer"
    manifest["state_id"] = state_id(both.artifact.manifest.identity | {"method": "newer"})
    (path / "manifest.json").write_text(seal(manifest))
    with pytest.raises(EngineError, match=r"method newer can('t be trained| be replayed)"):
        host.run("train", path, "--data", both.tokens, "--out", both.other, "--threads", "1")


@pytest.mark.parametrize("method", PHASED)
def test_phases_follow_each_other_alike_in_both(
    artifact: Exported, host: Host, tmp_path: Path, method: str
) -> None:
    """Decisions, transitions and rows included; and either resumes what the other began."""
    settings = {"epochs": 12, "seed": 3}
    both = Both(artifact(method), host, tmp_path, intents())
    trainer = both.train_python(**settings)
    both.train_host("--cache", tmp_path / "host.cache", **settings)
    assert both.same()
    whole = both.python.read_bytes()
    decisions = trainer.load(both.python).report["decisions"]
    assert decisions[-1]["phase"] in ("far", "cut1", "keep50")

    both.train_python(stop=decisions[-1]["update"] + 1, **settings)
    both.train_host("--stop-after", str(decisions[-1]["update"] + 1), **settings)
    assert both.same() and both.python.read_bytes() != whole
    both.train_host("--resume")
    Trainer(both.artifact, threads=1).resume(both.python, both.data)
    assert both.python.read_bytes() == both.other.read_bytes() == whole


def test_a_run_starts_in_a_chosen_phase(artifact: Exported, host: Host, tmp_path: Path) -> None:
    both = Both(artifact("gates"), host, tmp_path, intents())
    both.train_python(phase="keep50", **SETTINGS)
    whole = both.python.read_bytes()
    both.train_host("--stop-after", "3", phase="keep50", **SETTINGS)
    with pytest.raises(EngineError, match=r'setting phase \("keep50" there, "gates" here\)'):
        both.train_host("--resume", phase="gates")
    both.train_host("--resume")
    assert both.other.read_bytes() == whole
    with pytest.raises(EngineError, match=r"phase '?keep7'?: .* the phases gates, keep50"):
        both.train_host(phase="keep7")
    assert both.other.read_bytes() == whole


@pytest.mark.parametrize(
    ("method", "settings"),
    [("adapter", {"cache_precision": "int8", **SETTINGS}), ("gates", {"epochs": 4})],
)
def test_a_checkpoint_moves_between_all_languages(
    artifact: Exported,
    runner: Runner,
    jvm: JvmRunner,
    tmp_path: Path,
    method: str,
    settings: dict[str, Any],
) -> None:
    """A run that goes from each of the three to each other ends as one in one piece."""
    both = Both(artifact(method), runner, tmp_path, intents())
    both.train_python(**settings)
    both.train_python_on(both.other, stop=3, **settings)
    for host in (runner, jvm, None, jvm, runner, None):
        both.go_on(host, updates=3)
    assert both.python.read_bytes() != both.other.read_bytes()
    both.go_on(None)
    assert both.same()


def test_labels_and_weights_of_the_data_count(head: Both) -> None:
    """A label that was added on the device, and class weights that don't sum up exactly."""
    name = 'na\u00efve "\u03c0"\t\x7f\\'
    head.data = [*intents()[:17], {"text": "open the window", "label": name}]
    trainer = Trainer(head.artifact, threads=1)
    trainer.add_label(name)
    trainer.fit(head.data, checkpoint=head.python, class_weights="balanced", **SETTINGS)
    write_tokens(
        head.tokens, head.artifact, head.data, labels=trainer.labels, class_weights="balanced"
    )
    option = ("--add-label", name) if isinstance(head.host, JvmRunner) else ()
    head.train_host(*option, **SETTINGS)
    assert head.same()


def test_scores(artifact: Exported, host: Host, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "regression"), host, tmp_path, scores())
    both.train_python(**SETTINGS)
    both.train_host(**SETTINGS)
    assert both.same()


def test_several_labels(artifact: Exported, host: Host, tmp_path: Path) -> None:
    both = Both(artifact("head", "bert", "multilabel"), host, tmp_path, tags())
    both.train_python(**SETTINGS)
    both.train_host(**SETTINGS)
    assert both.same()
    tensors, metadata = read_tensors(both.tokens)
    narrow = {**tensors, "labels": tensors["labels"][:, :2].copy()}
    write_tensors(both.tokens, narrow, metadata)
    with pytest.raises(EngineError, match="its lists don't belong together"):
        both.train_host()


def test_a_resumption_with_something_else_is_refused(head: Both, artifact: Exported) -> None:
    head.train_host("--stop-after", "3", **SETTINGS)
    before = head.other.read_bytes()
    with pytest.raises(EngineError, match=r"setting epochs \(4 there, 5 here\); use the same"):
        head.train_host("--resume", epochs=5)
    write_tokens(head.tokens, head.artifact, intents()[1:])
    with pytest.raises(EngineError, match="the data are not those of the interrupted run"):
        head.train_host("--resume")
    other = artifact("spartan")
    write_tokens(head.tokens, other, intents())
    head.artifact = other
    with pytest.raises(EngineError, match=r"another artifact.* method.*state"):
        head.train_host("--resume")
    assert head.other.read_bytes() == before


def test_damaged_files_are_refused(head: Both) -> None:
    head.train_host("--stop-after", "3", **SETTINGS)
    content = bytearray(head.other.read_bytes())
    content[-1] ^= 1
    head.other.write_bytes(content)
    with pytest.raises(EngineError, match=r"other\.ckpt: damaged: .* sha256"):
        head.train_host("--resume")
    head.other.write_bytes(content[:100])
    with pytest.raises(EngineError, match=r"other\.ckpt: not a usable"):
        head.train_host("--resume")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("offsets", np.arange(25, dtype=np.int64)[::-1], "don't belong together"),
        ("weights", np.ones(3, np.float32), "don't belong together"),
        ("labels", np.full(24, 3, np.int64), "a label is unknown"),
        ("labels", np.full(24, 3, np.float32), "expected int64, found float32"),
        ("tokenizer", "0" * 64, "another tokenizer or length"),
        ("max_length", "8", "another tokenizer or length"),
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
        head.train_host()


@pytest.mark.parametrize("rate", [1, 1e-05, 0.0001, 1.25e16, 1e30])
def test_rates_are_written_as_python_writes_them(head: Both, rate: float) -> None:
    """With the largest ones the state overflows and updates are discarded."""
    settings = {"epochs": 2, "head_rate": float(rate), "seed": 2**64 - 1}
    trainer = head.train_python(**settings)
    head.train_host(**settings)
    assert head.same()
    assert bool(trainer.load(head.other).report["discarded"]) == (rate > 1e16)
