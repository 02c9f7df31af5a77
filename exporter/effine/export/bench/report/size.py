"""The page's section on sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.report.text import megabytes, newest, subject, table

_SHOWN = ("backbone.ptd", "backbone.pte", "train.pte", "predict.pte", "state.safetensors")


def sizes(records: Sequence[Record]) -> list[Record]:
    """The newest record of each setting."""
    return newest(records, lambda r: (r["model"], r["method"], r["precision"], tuple(r["seqs"])))


def size_body(records: Sequence[Record]) -> str:
    """Files of each artifact, and what rivals need."""
    rows, against, reasons = [], [], []
    for record in sizes(records):
        files = record["files"]
        total = sum(files.values())
        shown = [files.get(name, 0) for name in _SHOWN]
        rows.append(
            [subject(record), *map(megabytes, (total, *shown, total - sum(shown)))],
        )
        for name, size in record["rivals"].items():
            against.append([subject(record), name, megabytes(size), f"{total / size:.3f}"])
        reasons += [f"{name}: not measured: {why}" for name, why in record["unavailable"].items()]
    return "\n\n".join(
        [
            table(["artifact", "in all", *_SHOWN, "other files"], rows),
            "Beside what others need:",
            table(["artifact", "against", "size", "ratio"], against),
            *dict.fromkeys(reasons),
        ]
    )


def size_plots(records: Sequence[Record]) -> list[Plot]:
    """Artifacts and rivals as bars."""
    series: dict[str, list[tuple[Any, float]]] = {}
    for record in sizes(records):
        total = sum(record["files"].values())
        for name, size in {"effine": total, **record["rivals"]}.items():
            series.setdefault(name, []).append((subject(record), size / 1e6))
    return [Plot("size", "bars", "What ships with an app", "", "MB", series)]
