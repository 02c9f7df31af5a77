"""Exports combinations and replays their golden runs, in a process that may die."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effine.export.bench.records import append_record, read_records
from effine.export.cli.common import quiet
from effine.export.errors import ExportError, NoProgressError
from effine.export.pipeline import export
from effine.runtime.engines import make_engine
from effine.runtime.parity import check_engine
from matrix.cases import Case, versions
from networks import save_tiny

KIND = "matrix"
PASS, REFUSED, FAILED = "pass", "refused", "failed"
_CASES_A_PROCESS = 25

Outcome = dict[str, str]
Judge = Callable[[Case, Path], Outcome]


def outcome(case: Case, model: Path) -> Outcome:
    """`pass`, or `refused` by the export or `failed` with a reason."""
    try:
        with TemporaryDirectory(prefix="effine-") as folder:
            artifact = export(str(model), out=Path(folder, "made.effine"), **case.settings)
            report = check_engine(artifact, make_engine(artifact, threads=1))
    except NoProgressError as error:
        return _failed(error)
    except ExportError as error:
        return {"outcome": REFUSED, "reason": " ".join(str(error).split())}
    except Exception as error:
        return _failed(error)
    wrong = [check for check in report.checks if not check.passed]
    reasons = [f"{c.name}: {c.error:.3g} exceeds {c.limit:.3g} at {c.worst}" for c in wrong]
    return {"outcome": FAILED if wrong else PASS, "reason": "; ".join(reasons)}


def _failed(error: Exception) -> Outcome:
    return {"outcome": FAILED, "reason": " ".join(f"{type(error).__name__}: {error}".split())}


def run(chosen: Iterable[Case], results: Path, judge: Judge, notice: Callable[[str], None]) -> None:
    """Judge what `results` doesn't hold with the same fingerprint yet, and what failed."""
    newest = {case_of(record): record for record in read_records(results)}
    held = {(case, r["fingerprint"]) for case, r in newest.items() if r["outcome"] != FAILED}
    with TemporaryDirectory(prefix="effine-") as folder:
        for case in chosen:
            fingerprint = case.fingerprint()
            if (case, fingerprint) in held:
                continue
            model = Path(folder, case.architecture)
            if not model.exists():
                save_tiny(case.architecture, model)
            started = time.perf_counter()
            found = judge(case, model)
            record = {
                "kind": KIND,
                **asdict(case),
                **found,
                "seconds": round(time.perf_counter() - started, 1),
                "fingerprint": fingerprint,
                "versions": versions(),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            append_record(results, record)
            notice(
                f"{' '.join(asdict(case).values())}: {found['outcome']} {found['reason']}".strip()
            )


def case_of(record: dict[str, Any]) -> Case:
    """The combination of a record."""
    return Case(**{name: record[name] for name in Case.__dataclass_fields__})


class Isolated:
    """Judges in a process of its own, which is replaced if it dies and now and then, as engines
    keep what they have loaded; to be closed by `with`.

    Args:
        judge: what the process runs; it must be importable.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._pool: ProcessPoolExecutor | None = None
        self._left = 0

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, case: Case, model: Path) -> Outcome:
        """What the combination gives; a process that died is a failure."""
        if self._pool is None or self._left == 0:
            self._close()
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), quiet)
            self._left = _CASES_A_PROCESS
        self._left -= 1
        try:
            return self._pool.submit(self._judge, case, model).result()
        except BrokenProcessPool:
            self._close()
            return {"outcome": FAILED, "reason": "the process died"}

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
