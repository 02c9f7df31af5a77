"""The C++ runner, here and on 64-bit ARM, and the Kotlin SDK replay every golden run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifacts import PHASED, Exported
from eager import eager_artifact
from effine.export.methods import known_methods
from effine.export.parity import run_parity
from effine.runtime.artifact import Artifact
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


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        *((method, "fp32") for method in known_methods() if method not in PHASED),
        *(("spartan", "int8"), ("head", "int4")),
    ],
)
def test_trains_as_pytorch_does(
    artifact: Exported, host: Host, method: str, precision: str
) -> None:
    assert_parity(host, artifact(method, precision=precision))


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_tasks_on_tokens_are_replayed_but_not_trained(
    artifact: Exported, runner: Runner, tmp_path: Path, task: str
) -> None:
    exported = artifact("head", "bert", task)
    assert_parity(runner, exported)
    options = ("--data", tmp_path / "none.tokens", "--out", tmp_path / "a.ckpt")
    with pytest.raises(EngineError, match=f"task {task} can be replayed here but not trained yet"):
        runner.run("train", exported.path, *options)


def test_phases_are_refused(tiny: dict[str, Path], tmp_path: Path, host: Host) -> None:
    phased, _ = eager_artifact(tiny["bert"], tmp_path / "a.effine", method="autofreeze")
    with pytest.raises(EngineError, match=r"doesn't have schema 1|schema 2 is newer"):
        replay(host, phased.path)


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
    ("method", "precision"), [("spartan", "fp32"), ("read", "fp32"), ("spartan", "int8")]
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
