"""The page's sections on scores: runs over seeds, and grids of settings."""

from __future__ import annotations

from collections.abc import Sequence

from effine.export.bench.records import Record
from effine.export.bench.report.text import newest, table
from effine.export.bench.table import grid_rows, identity, quality_rows


def quality_body(records: Sequence[Record]) -> str:
    """Means over seeds of training on the programs and in PyTorch eager."""
    rows = []
    for row in quality_rows(newest(records, identity)):
        scale, form = _scale(row["metric"])
        error = row["standard_error"]
        rows.append(
            [
                row["data"],
                row["metric"],
                f"{row['method']} {row['precision']}",
                str(row["epochs"] or "recipe"),
                str(row["seeds"]),
                f"{scale * row['effine']:{form}}",
                f"{scale * row['eager']:{form}}",
                f"{scale * row['difference']:+{form}}",
                "-" if error is None else f"{scale * error:{form}}",
                f"{100 * row['equal_predictions']:.1f} %",
                "-" if row["frozen_head"] is None else f"{scale * row['frozen_head']:{form}}",
            ]
        )
    header = [
        "data",
        "metric",
        "trained",
        "epochs",
        "seeds",
        "effine",
        "eager",
        "difference",
        "standard error",
        "equal predictions",
        "frozen head",
    ]
    return table(header, rows)


def grid_body(records: Sequence[Record]) -> str:
    """The recipe's score beside the grid's best."""
    rows = [
        [
            row["data"],
            row["method"],
            str(row["points"]),
            str(row["seeds"]),
            "-" if row["recipe"] is None else f"{row['recipe']:.4f}",
            f"{row['best']:.4f}",
            "-" if row["recipe"] is None else f"{100 * (row['best'] - row['recipe']):.2f}",
            f"{row['piece_rate']:g}",
            f"{row['head_rate']:g}",
            str(row["epochs"]),
        ]
        for row in grid_rows(newest(records, identity))
    ]
    header = ["data", "method", "points", "seeds", "recipe", "best", "points apart"]
    header += ["piece rate", "head rate", "epochs"]
    return table(header, rows)


def _scale(metric: str) -> tuple[float, str]:
    return (1.0, ".4f") if metric == "mse" else (100.0, ".2f")
