"""The C++ runner, here and on 64-bit ARM, and the Kotlin SDK replay every golden run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import BATCH, ON_TOKENS, PHASED, Exported, intents
from effine.export.methods import known_methods
from effine.export.parity import run_parity
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.codec import seal
from effine.runtime.engines import Arrays
from effine.runtime.engines.jvm import JvmRunner, build_jvm_runner, replay_jvm
from effine.runtime.engines.native import Runner, build_arm64_runner, build_runner, replay_native
from effine.runtime.errors import EngineError
from effine.runtime.parity import compare
from runners import ANDROID, NATIVE, ROOT, Host

pytest_plugins = "runners"
VECTORS = ROOT / "tests" / "vectors"


def program(built: Runner, name: str) -> Runner:
    return Runner(built.executable.with_name(name), built.emulator)


def replay(host: Host, path: Path) -> Arrays:
    return (replay_jvm if isinstance(host, JvmRunner) else replay_native)(host, path, threads=1)


def assert_parity(host: Host, exported: Artifact) -> None:
    report = compare(exported, replay(host, exported.path), "host")
    assert report.passed, [check for check in report.checks if not check.passed]


def cases(*often: tuple[str, str]) -> list[Any]:
    """Every method in fp32 and, if it leaves layers frozen, in int8; and int4.

    `make test` takes what is wanted often, `make matrix` all.
    """
    frozen = [name for name in known_methods() if name not in ("full", *PHASED)]
    every = [(name, "fp32") for name in known_methods()] + [(name, "int8") for name in frozen]
    return [
        pytest.param(*case, marks=[] if case in often else pytest.mark.matrix)
        for case in (*every, ("head", "int4"))
    ]


FP32 = tuple((name, "fp32") for name in known_methods())
QUANTISED = (("spartan", "int8"), ("head", "int4"))


@pytest.mark.parametrize(("method", "precision"), cases(*FP32, *QUANTISED))
def test_trains_as_pytorch_does(
    artifact: Exported, host: Host, method: str, precision: str
) -> None:
    assert_parity(host, artifact(method, precision=precision))


@pytest.mark.parametrize("task", ON_TOKENS)
def test_tasks_on_tokens_are_replayed_but_not_trained(
    artifact: Exported, runner: Runner, jvm: JvmRunner, tmp_path: Path, task: str
) -> None:
    """In C++; for Kotlin see test_kotlin_training."""
    exported = artifact("head", "bert", task)
    for host in (runner, jvm):
        assert_parity(host, exported)
    options = ("--data", tmp_path / "none.tokens", "--out", tmp_path / "a.ckpt")
    with pytest.raises(EngineError, match=f"task {task} can be replayed here, but neither trained"):
        runner.run("train", exported.path, *options)


@pytest.mark.matrix
def test_without_a_backbone_the_token_inputs_are_the_features(
    tiny: dict[str, Path], tmp_path: Path, runner: Runner, jvm: JvmRunner
) -> None:
    options = {"embeddings": "train"}
    settings = {"data": intents(), "seq": "8,16", "batch": BATCH, "out": tmp_path / "a.effine"}
    exported = export(str(tiny["bert"]), method="full", options=options, **settings)
    assert not exported.manifest.has_backbone
    for host in (runner, jvm):
        assert_parity(host, exported)


def with_transitions(exported: Artifact, path: Path, target: str, **changes: Any) -> Path:
    """A copy whose transitions to a phase differ."""
    shutil.copytree(exported.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["transitions"] = [
        way | (changes if way["target"] == target else {}) for way in manifest["transitions"]
    ]
    (path / "manifest.json").write_text(seal(manifest))
    return path


def test_transitions_are_followed(artifact: Exported, host: Host, tmp_path: Path) -> None:
    """Moments that a change of freezing doesn't forget are noticed."""
    exported = artifact("autofreeze")
    path = with_transitions(exported, tmp_path / "kept.effine", "cut1", zero=["statistic"])
    report = compare(exported, replay(host, path), "host")
    assert "cut1: gradients" in {check.name for check in report.checks if not check.passed}


def test_transitions_that_lack_something_are_refused(
    artifact: Exported, host: Host, tmp_path: Path
) -> None:
    path = with_transitions(artifact("far"), tmp_path / "a.effine", "far", gather=[])
    with pytest.raises(EngineError, match=r"can't be made: it lacks .*feed_forward.* as needed"):
        replay(host, path)


@pytest.mark.parametrize("engine", ["native", "jvm"])
def test_accumulates_as_pytorch_does(
    artifact: Exported,
    request: pytest.FixtureRequest,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request.getfixturevalue({"native": "runner"}.get(engine, engine))
    monkeypatch.chdir(ROOT)
    path = artifact("head", accumulate=2).path
    (report,) = run_parity(path, [engine], threads=1)
    assert report.passed, [check for check in report.checks if not check.passed]
    assert "accumulated: gradients" in [check.name for check in report.checks]
    assert (path / "reports" / f"parity-{engine}.json").is_file()


@pytest.mark.parametrize(
    ("method", "precision"),
    cases(("spartan", "fp32"), ("read", "fp32"), ("spartan", "int8")),
)
def test_trains_as_pytorch_does_on_arm64(
    artifact: Exported, arm64: Runner, method: str, precision: str
) -> None:
    assert_parity(arm64, artifact(method, precision=precision))


def test_parity_reports_native_and_arm64(
    artifact: Exported, runner: Runner, arm64: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = artifact("head").path
    reports = run_parity(path, ["native", "arm64"], threads=1)
    assert [(report.engine, report.passed) for report in reports] == [
        ("native", True),
        ("arm64", True),
    ]
    assert (path / "reports" / "parity-arm64.json").is_file()
    assert "aarch64" in reports[1].machine


def test_a_missing_tool_is_named_with_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EngineError, match=r"aarch64-linux-gnu-g\+\+: apt install"):
        build_arm64_runner(NATIVE, tmp_path)
    with pytest.raises(EngineError, match=r"needs a C\+\+17 compiler: install g\+\+ or clang"):
        build_runner(NATIVE, tmp_path)
    with pytest.raises(EngineError, match="needs a JDK: apt install maven openjdk"):
        build_jvm_runner(ANDROID, tmp_path)


def test_a_replay_repeats_itself(artifact: Exported, runner: Runner) -> None:
    path = artifact("head").path
    first, second = (replay(runner, path) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_order_schedules_and_rounding_agree_with_the_vectors(runner: Runner) -> None:
    program(runner, "effine-vectors").run(VECTORS)


def test_order_schedules_and_rounding_agree_with_the_vectors_on_arm64(arm64: Runner) -> None:
    program(arm64, "effine-vectors").run(VECTORS)
