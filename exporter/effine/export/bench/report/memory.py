"""The page's section on memory."""

from __future__ import annotations

from collections.abc import Sequence

from effine.export.bench.records import Record
from effine.export.bench.report.text import megabytes, newest, subject, table

_SUMMARY = {"eager": "PyTorch eager, same method", "full": "PyTorch eager, full tuning"}


def memory_body(records: Sequence[Record]) -> str:
    """Measured and predicted peaks, beside PyTorch's growth."""
    chosen = newest(
        records,
        lambda r: (subject(r), r["batch"], tuple(r["seqs"])),
    )
    rows = [_row(record) for record in chosen]
    header = ["artifact", "native runner", "predicted", "error", *_SUMMARY.values()]
    return (
        "Peak resident memory (VmHWM) of the whole native runner while it trains, with the "
        "manifest's prediction; and by how much PyTorch's peak exceeds its memory after its "
        "imports, with the runner's peak over it in brackets.\n\n" + table(header, rows)
    )


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
