"""Parity on several engines, with a report for each inside the artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from effine.export.errors import ExportError
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import ExecuTorchEngine
from effine.runtime.engines.native import build_runner, replay_native
from effine.runtime.parity import ParityReport, check_engine, compare

NATIVE_SOURCE = Path("mobile_demo", "native")
NATIVE_BUILD = Path("build", "native")


def run_parity(path: Path, engines: Sequence[str], threads: int | None) -> list[ParityReport]:
    """Replay the golden run on each engine and save the reports into `reports/`.

    Raises:
        ExportError: an engine is unknown.
        EngineError: an engine can't be built or run; the message says what is missing.
    """
    unknown = [name for name in engines if name not in ENGINES]
    if unknown:
        raise ExportError(f"--on {unknown[0]}: not an engine; known: {', '.join(ENGINES)}")
    artifact = Artifact.open(path)
    reports = [ENGINES[name](artifact, threads) for name in engines]
    for report in reports:
        report.save(artifact.path / "reports")
    return reports


def _python(artifact: Artifact, threads: int | None) -> ParityReport:
    return check_engine(artifact, ExecuTorchEngine(artifact, threads))


def _native(artifact: Artifact, threads: int | None) -> ParityReport:
    if not NATIVE_SOURCE.is_dir():
        raise ExportError(
            f"--on native: {NATIVE_SOURCE} not found; run inside a checkout of effine"
        )
    runner = build_runner(NATIVE_SOURCE, NATIVE_BUILD)
    return compare(artifact, replay_native(runner, artifact.path, threads), "native")


ENGINES: dict[str, Callable[[Artifact, int | None], ParityReport]] = {
    "python": _python,
    "native": _native,
}
