"""The page's sections on memory: of training, and of several tasks."""

from __future__ import annotations

from collections.abc import Sequence

from effine.export.bench.records import Record
from effine.export.bench.report.text import megabytes, newest, subject, table

_FIGURES = ("peak", "resident")
_SUMMARY = {"eager": "PyTorch eager, same method", "full": "PyTorch eager, full tuning"}


def memory_body(records: Sequence[Record]) -> str:
    """Measured and predicted peaks, beside PyTorch's growth."""
    chosen = newest(
        records,
        lambda r: (subject(r), r["batch"], tuple(r["seqs"])),
    )
    rows = [_row(record) for record in chosen]
    header = ["artifact", "native runner", "predicted", "error", *_SUMMARY.values()]
    return table(header, rows)


def _row(record: Record) -> list[str]:
    peak, predicted = record["peak"], record["predicted"]
    growths = [record["rivals"][name] for name in _SUMMARY]
    return [
        f"{subject(record)}, B={record['batch']} S={','.join(map(str, record['seqs']))}",
        megabytes(peak),
        megabytes(predicted),
        f"{predicted / peak - 1:+.1%}",
        *(f"{megabytes(growth)} ({peak / growth:.2f})" for growth in growths),
    ]


def tasks_body(records: Sequence[Record]) -> str:
    """Memory with one more task loaded a line."""
    rows = []
    for record in newest(records, lambda r: (r["model"], r["precision"], tuple(r["seqs"]))):
        first = record["tasks"][0]
        what = f"{record['model']} {record['precision']}"
        for task in record["tasks"]:
            rows.append([what, task["method"], *(_grown(task, first, k) for k in _FIGURES)])
            what = "and"
    header = ["backbone", "task", "peak", "resident after predicting"]
    return table(header, rows)


def _grown(task: Record, first: Record, figure: str) -> str:
    return f"{megabytes(task[figure])} ({task[figure] / first[figure] - 1:+.1%})"
