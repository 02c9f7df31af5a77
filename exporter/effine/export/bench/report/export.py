"""The page's section on exports."""

from __future__ import annotations

from collections.abc import Sequence

from effine.export.bench.records import Record
from effine.export.bench.report.text import megabytes, newest, subject, table


def export_body(records: Sequence[Record]) -> str:
    """Seconds by stage, and the peak memory."""
    chosen = newest(
        records,
        lambda r: (r["model"], r["method"], r["precision"], r["batch"], tuple(r["seqs"])),
    )
    stages = list(dict.fromkeys(stage for record in chosen for stage in record["stages"]))
    rows = [
        [
            f"{subject(record)}, B={record['batch']} S={','.join(map(str, record['seqs']))}",
            f"{record['seconds']:.1f}",
            *(f"{record['stages'].get(stage, 0.0):.1f}" for stage in stages),
            megabytes(record["peak"]),
            megabytes(record["worker_peak"]),
        ]
        for record in chosen
    ]
    header = ["artifact", "seconds in all", *stages, "peak memory", "peak of a lowering process"]
    return table(header, rows)
