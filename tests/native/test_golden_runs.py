"""The C++ runner replays the golden run of every method, here and on 64-bit ARM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifacts import PHASED, Exported
from eager import eager_artifact
from effine.export.methods import known_methods
from effine.export.parity import run_parity
from effine.runtime.engines.native import Runner, build_arm64_runner, build_runner, replay_native
from effine.runtime.errors import EngineError
from effine.runtime.parity import compare

pytest_plugins = "runners"
ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"


def program(built: Runner, name: str) -> Runner:
    return Runner(built.executable.with_name(name), built.emulator)


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        *((method, "fp32") for method in known_methods() if method not in PHASED),
        *(("spartan", "int8"), ("head", "int4")),
    ],
)
def test_trains_as_pytorch_does(
    artifact: Exported, runner: Runner, method: str, precision: str
) -> None:
    exported = artifact(method, precision=precision)
    report = compare(exported, replay_native(runner, exported.path, threads=1), "native")
    assert report.passed, [check for check in report.checks if not check.passed]


def test_phases_are_refused(tiny: dict[str, Path], tmp_path: Path, runner: Runner) -> None:
    phased, _ = eager_artifact(tiny["bert"], tmp_path / "a.effine", method="autofreeze")
    with pytest.raises(EngineError, match="doesn't have schema 1"):
        replay_native(runner, phased.path)


def test_accumulates_as_pytorch_does(
    artifact: Exported, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    reports = run_parity(artifact("head", accumulate=2).path, ["python", "native"], threads=1)
    for report in reports:
        assert report.passed, [check for check in report.checks if not check.passed]
        assert "accumulated: gradients" in [check.name for check in report.checks]


@pytest.mark.parametrize(
    ("method", "precision"), [("spartan", "fp32"), ("read", "fp32"), ("spartan", "int8")]
)
def test_trains_as_pytorch_does_on_arm64(
    artifact: Exported, arm64: Runner, method: str, precision: str
) -> None:
    exported = artifact(method, precision=precision)
    report = compare(exported, replay_native(arm64, exported.path, threads=1), "arm64")
    assert report.passed, [check for check in report.checks if not check.passed]


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
    source = ROOT / "mobile_demo" / "native"
    with pytest.raises(EngineError, match=r"aarch64-linux-gnu-g\+\+: apt install"):
        build_arm64_runner(source, tmp_path)
    with pytest.raises(EngineError, match=r"needs a C\+\+17 compiler: install g\+\+ or clang"):
        build_runner(source, tmp_path)


def test_a_replay_repeats_itself(artifact: Exported, runner: Runner) -> None:
    path = artifact("head").path
    first, second = (replay_native(runner, path, threads=1) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_order_schedules_and_rounding_agree_with_the_vectors(runner: Runner) -> None:
    program(runner, "effine-vectors").run(VECTORS)


def test_order_schedules_and_rounding_agree_with_the_vectors_on_arm64(arm64: Runner) -> None:
    program(arm64, "effine-vectors").run(VECTORS)
