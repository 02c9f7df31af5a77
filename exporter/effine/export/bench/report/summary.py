"""The page's summary: each figure against the strongest rival that competes for it."""

from __future__ import annotations

from collections.abc import Sequence

from effine.export.bench.records import Record
from effine.export.bench.report.size import sizes
from effine.export.bench.report.speed import step_contests, step_name
from effine.export.bench.report.text import megabytes, subject, table

_TRAINS = {"method": "same method", "all": "full tuning"}


def summary(records: Sequence[Record]) -> str:
    """One row a figure; where rivals compete, the fastest or smallest of them is quoted."""
    rows = _step_rows([r for r in records if r["kind"] == "step"])
    rows += _size_rows([r for r in records if r["kind"] == "size"])
    if not rows:
        return ""
    header = ["figure", "effine", "strongest rival", "its figure", "ratio"]
    return f"## Summary\n\n{table(header, rows)}"


def _step_rows(records: Sequence[Record]) -> list[list[str]]:
    strongest: dict[tuple[str, str], tuple[float, Record, str]] = {}
    for record, rival in step_contests(records):
        if rival in record["ratios"]:
            ratio = record["ratios"][rival]["step"]["median"]
            key = (step_name(record), record["rivals"][rival]["trains"])
            if key not in strongest or ratio > strongest[key][0]:
                strongest[key] = (ratio, record, rival)
    return [
        [
            f"step, {name}; against {_TRAINS[trains]}",
            f"{record['ms']['step']['median']:.1f} ms",
            record["rivals"][rival]["summary"],
            f"{record['ms'][rival]['median']:.1f} ms",
            f"{ratio:.3f}",
        ]
        for (name, trains), (ratio, record, rival) in strongest.items()
    ]


def _size_rows(records: Sequence[Record]) -> list[list[str]]:
    rows = []
    for record in sizes(records):
        total = sum(record["files"].values())
        name, size = min(record["rivals"].items(), key=lambda item: item[1])
        rows.append(
            [
                f"size, {subject(record)}",
                megabytes(total),
                name,
                megabytes(size),
                f"{total / size:.3f}",
            ]
        )
    return rows
