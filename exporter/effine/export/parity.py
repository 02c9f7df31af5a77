"""Parity on several engines, with a report for each inside the artifact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from effine.export.errors import ExportError
from effine.runtime.artifact import Artifact
from effine.runtime.engines import make_engine
from effine.runtime.engines.android import build_test_app, connected_device, replay_android
from effine.runtime.engines.jvm import JvmRunner, build_jvm_runner, replay_jvm
from effine.runtime.engines.native import Runner, build_arm64_runner, build_runner, replay_native
from effine.runtime.parity import (
    ParityReport,
    accumulation_checks,
    check_engine,
    compare,
    resume_check,
)

NATIVE_SOURCE = Path("mobile_demo", "native")
ANDROID_SOURCE = Path("mobile_demo", "android")
BUILD = Path("build")


def run_parity(path: Path, engines: Sequence[str], threads: int | None) -> list[ParityReport]:
    """Replay the golden run on each engine and save the reports into `reports/`.

    Raises:
        ExportError: an engine is unknown, or runs no programs of the artifact's target.
        EngineError: an engine can't be built or run; the message says what is missing.
    """
    unknown = [name for name in engines if name not in ENGINES]
    if unknown:
        raise ExportError(f"--on {unknown[0]}: not an engine; known: {', '.join(ENGINES)}")
    artifact = Artifact.open(path)
    others = [name for name in engines if name != "python"]
    if artifact.manifest.target.name != "xnnpack" and others:
        raise ExportError(
            f"--on {others[0]}: runs ExecuTorch programs, and {path} has "
            f"{artifact.manifest.target.name} programs; use --on python"
        )
    reports = [ENGINES[name](artifact, threads) for name in engines]
    for report in reports:
        report.save(artifact.path / "reports")
    return reports


def _python(artifact: Artifact, threads: int | None) -> ParityReport:
    return check_engine(artifact, make_engine(artifact, threads))


def native_runner() -> Runner:
    """The C++ runner for this machine, built if it isn't yet.

    Raises:
        ExportError: this isn't a checkout of effine.
        EngineError: a tool is missing, or the build fails.
    """
    return build_runner(_checkout("native", NATIVE_SOURCE), BUILD / "native")


def _native(artifact: Artifact, threads: int | None) -> ParityReport:
    return _replayed(artifact, native_runner(), threads, "native")


def _arm64(artifact: Artifact, threads: int | None) -> ParityReport:
    runner = build_arm64_runner(_checkout("arm64", NATIVE_SOURCE), BUILD / "native-arm64")
    report = _replayed(artifact, runner, threads, "arm64")
    return dataclasses.replace(report, machine="Linux aarch64 under qemu")


def _replayed(artifact: Artifact, runner: Runner, threads: int | None, engine: str) -> ParityReport:
    result = replay_native(runner, artifact.path, threads)
    more = []
    if artifact.manifest.accumulates:
        sums = replay_native(runner, artifact.path, threads, accumulated=True)
        more = accumulation_checks(artifact, sums)
    return compare(artifact, result, engine, *more)


def jvm_runner() -> JvmRunner:
    """The Kotlin SDK as a command on the JVM, built if it isn't yet.

    Raises:
        ExportError: this isn't a checkout of effine.
        EngineError: a tool is missing, or the build fails.
    """
    return build_jvm_runner(_checkout("jvm", ANDROID_SOURCE), BUILD / "jvm")


def _jvm(artifact: Artifact, threads: int | None) -> ParityReport:
    runner = jvm_runner()
    result = replay_jvm(runner, artifact.path, threads)
    more = [resume_check(result, replay_jvm(runner, artifact.path, threads, interrupted=True))]
    if artifact.manifest.accumulates:
        sums = replay_jvm(runner, artifact.path, threads, accumulated=True)
        more += accumulation_checks(artifact, sums)
    return compare(artifact, result, "jvm", *more)


def _android(artifact: Artifact, threads: int | None) -> ParityReport:
    source = _checkout("android", ANDROID_SOURCE)
    device = connected_device()
    run = replay_android(device, build_test_app(source, BUILD / "android"), artifact, threads)
    more = [resume_check(run.result, run.resumed)]
    if run.accumulated is not None:
        more += accumulation_checks(artifact, run.accumulated)
    report = compare(artifact, run.result, "android", *more)
    return dataclasses.replace(report, machine=device.machine)


def _checkout(engine: str, source: Path) -> Path:
    if not source.is_dir():
        raise ExportError(f"{engine} runner: {source} not found; run inside a checkout of effine")
    return source


ENGINES: dict[str, Callable[[Artifact, int | None], ParityReport]] = {
    "python": _python,
    "native": _native,
    "arm64": _arm64,
    "jvm": _jvm,
    "android": _android,
}
