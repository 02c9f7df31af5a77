"""The Kotlin SDK replays the golden run of every method on the JVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts import PHASED, Exported
from eager import eager_artifact
from effine.export.methods import known_methods
from effine.export.parity import run_parity
from effine.runtime.engines.jvm import JvmRunner, build_jvm_runner, replay_jvm
from effine.runtime.errors import EngineError
from effine.runtime.parity import compare

pytest_plugins = "jvm_runner"
ROOT = Path(__file__).parents[2]


METHODS = [method for method in known_methods() if method not in PHASED]


def test_phases_are_refused(tiny: dict[str, Path], tmp_path: Path, jvm: JvmRunner) -> None:
    phased, _ = eager_artifact(tiny["bert"], tmp_path / "a.effine", method="autofreeze")
    with pytest.raises(EngineError, match="schema 2 is newer than this version reads"):
        replay_jvm(jvm, phased.path)


@pytest.mark.parametrize("method", METHODS)
def test_trains_as_pytorch_does(artifact: Exported, jvm: JvmRunner, method: str) -> None:
    exported = artifact(method)
    report = compare(exported, replay_jvm(jvm, exported.path, threads=1), "jvm")
    assert report.passed, [check for check in report.checks if not check.passed]


def test_trains_on_quantised_weights(artifact: Exported, jvm: JvmRunner) -> None:
    exported = artifact("spartan", precision="int8")
    report = compare(exported, replay_jvm(jvm, exported.path, threads=1), "jvm")
    assert report.passed, [check for check in report.checks if not check.passed]


def test_parity_reports_the_jvm(
    artifact: Exported, jvm: JvmRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart and the sums of gradients, too."""
    monkeypatch.chdir(ROOT)
    path = artifact("head", accumulate=2).path
    (report,) = run_parity(path, ["jvm"], threads=1)
    assert report.engine == "jvm" and report.passed
    names = [check.name for check in report.checks]
    assert "resume is bit-exact" in names and "accumulated: gradients" in names
    assert (path / "reports" / "parity-jvm.json").is_file()


def test_a_missing_tool_is_named_with_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EngineError, match="needs a JDK: apt install maven openjdk"):
        build_jvm_runner(ROOT / "mobile_demo" / "android", tmp_path)
