"""`effine bench papers`: each paper's comparison on effine's own programs, one file a paper.

A paper's file says what is measured and which figures follow from the records. Records are
lines of JSON that are appended as measurements finish; finished ones are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from effine.export.bench.papers import autofreeze, far, gates, read, spartan
from effine.export.bench.papers.figure import Figure, Findings
from effine.export.bench.papers.workbench import Measurement, Settings, Workbench
from effine.export.bench.records import Record, append_record, load_average, read_records, stamped
from effine.export.bench.report.plots import Plot
from effine.export.bench.report.text import newest
from effine.export.bench.rivals.case import Unavailable
from effine.export.errors import ExportError

KIND = "paper"
_OF_A_RUN = ("part", "arm", "seed")


@dataclass(frozen=True)
class Paper:
    """A paper's comparison.

    Args:
        measurements: what to measure, cheap to list.
        figures: what follows from the records under the same settings.
        notes: lines of Markdown that explain them.
    """

    title: str
    measurements: Callable[[Workbench], list[Measurement]]
    figures: Callable[[Findings], list[Figure]]
    plots: Callable[[Findings], list[Plot]]
    notes: Callable[[Findings], list[str]] = field(default=lambda found: [])


def _paper(module: ModuleType) -> Paper:
    parts = ("measurements", "figures", "plots")
    own = {"notes": module.notes} if hasattr(module, "notes") else {}
    return Paper(module.TITLE, *(getattr(module, part) for part in parts), **own)


PAPERS = {module.NAME: _paper(module) for module in (read, spartan, far, autofreeze, gates)}


def find_papers(names: Iterable[str]) -> list[str]:
    """Names of papers, each once.

    Raises:
        ExportError: one is unknown, or there is none.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen or [""]:
        if name not in PAPERS:
            raise ExportError(f"--paper {name}: not a paper; known: {', '.join(PAPERS)}")
    return chosen


def run_papers(
    names: Sequence[str],
    settings: Settings,
    results: Path,
    command: str,
    notice: Callable[[str], None],
) -> None:
    """Measure what `results` doesn't hold yet.

    What can't be measured here, such as memory without the native runner, is told and tried
    again by the next run.
    """
    done = {_identity(r) for r in read_records(results) if r["kind"] == KIND}
    bench = Workbench(settings)
    for name in names:
        for measurement in PAPERS[name].measurements(bench):
            setting = dict(measurement.setting)
            if _identity({"setting": setting}) in done:
                continue
            load = load_average()
            what = " ".join(str(setting[key]) for key in _OF_A_RUN if setting[key] is not None)
            try:
                measured = measurement.measure()
            except Unavailable as reason:
                notice(f"{name} {what}: not measured: {reason}")
                continue
            record = {"setting": setting, **measured}
            append_record(results, stamped(KIND, command, load, record))
            notice(f"{name} {what}: done")


def findings(records: Sequence[Record]) -> dict[str, list[Findings]]:
    """The records by paper, those under the same settings together; the newest of each counts."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in newest([r for r in records if r["kind"] == KIND], _identity):
        setting = record["setting"]
        shared = {key: value for key, value in setting.items() if key not in _OF_A_RUN}
        key = (setting["paper"], json.dumps(shared, sort_keys=True))
        groups.setdefault(key, []).append(record)
    found: dict[str, list[Findings]] = {}
    for name in PAPERS:
        for (paper, _), group in groups.items():
            if paper == name:
                found.setdefault(name, []).append(Findings(group))
    return found


def figure_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each figure beside the paper's, as plain data."""
    return [
        {
            "paper": name,
            "model": group.setting["model"],
            "data": group.setting["data"],
            "figure": figure.what,
            "quoted": figure.quoted,
            "effine": figure.value,
            "goal": figure.goal,
            "apart": figure.apart,
        }
        for name, groups in findings(records).items()
        for group in groups
        for figure in PAPERS[name].figures(group)
    ]


def _identity(record: Record) -> str:
    return json.dumps(record["setting"], sort_keys=True)
