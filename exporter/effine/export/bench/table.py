"""Rows of what quality runs and grids reached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from effine.export.bench.records import Record
from effine.export.methods import known_methods
from effine.export.tasks import find_task

_SETTING = (
    "data",
    "task",
    "train_size",
    "per_class",
    "max_test",
    "metric",
    "model",
    "precision",
    "epochs",
)
_IDENTITY = ("kind", *_SETTING, "method", "seed", "piece_rate", "head_rate")
_Point = tuple[float, float, int]


def identity(record: Record) -> str:
    """What tells a run from others: its settings, without what came out and on what."""
    return json.dumps({name: record.get(name) for name in _IDENTITY})


def quality_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Means over seeds of effine and eager, their paired difference, and the frozen head.

    `standard_error` is that of the paired difference; None for one seed.
    """
    runs = [record for record in records if record["kind"] == "run"]
    groups = _grouped(runs)
    heads = {_setting(r): rows for r, rows in groups.values() if r["method"] == "head"}
    rows = []
    for first, group in groups.values():
        own = np.array([record["effine"] for record in group])
        eager = np.array([record["eager"] for record in group])
        head = heads.get(_setting(first))
        spread = (own - eager).std(ddof=1) / len(own) ** 0.5 if len(own) > 1 else None
        rows.append(
            {
                "data": _data(first),
                "metric": first["metric"],
                "method": first["method"],
                "precision": first["precision"],
                "epochs": first["epochs"],
                "seeds": len(own),
                "effine": float(own.mean()),
                "eager": float(eager.mean()),
                "difference": float((own - eager).mean()),
                "standard_error": None if spread is None else float(spread),
                "equal_predictions": min(record["equal_predictions"] for record in group),
                "frozen_head": head and float(np.mean([record["effine"] for record in head])),
            }
        )
    return sorted(rows, key=lambda row: (row["data"], row["precision"]))


def grid_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """For each data set and method: the grid's best point and the recipe's score beside it.

    Points count that were tried with as many seeds as any. The recipe is today's.
    """
    grouped: dict[tuple[str, str, str, str], dict[_Point, list[float]]] = {}
    for record in records:
        if record["kind"] == "grid":
            key = (_data(record), record["task"], record["metric"], record["method"])
            point = (record["piece_rate"], record["head_rate"], record["epochs"])
            grouped.setdefault(key, {}).setdefault(point, []).append(record["score"])
    rows = []
    for (data, task, metric, method), found in grouped.items():
        seeds = max(map(len, found.values()))
        scores = {p: float(np.mean(each)) for p, each in found.items() if len(each) == seeds}
        best = (min if metric == "mse" else max)(scores, key=lambda point: scores[point])
        recipe = find_task(task).recipe(known_methods()[method].recipe)
        rows.append(
            {
                "data": data,
                "method": method,
                "points": len(scores),
                "seeds": seeds,
                "best": scores[best],
                "piece_rate": best[0],
                "head_rate": best[1],
                "epochs": best[2],
                "recipe": scores.get((recipe.piece_rate, recipe.head_rate, recipe.epochs)),
            }
        )
    return sorted(rows, key=lambda row: row["data"])


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as aligned columns."""
    if not rows:
        return "no results"
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _grouped(runs: Iterable[Record]) -> dict[tuple[Any, ...], tuple[Record, list[Record]]]:
    groups: dict[tuple[Any, ...], tuple[Record, list[Record]]] = {}
    for record in runs:
        key = (*_setting(record), record["method"])
        groups.setdefault(key, (record, []))[1].append(record)
    return groups


def _setting(record: Record) -> tuple[Any, ...]:
    return tuple(record[name] for name in _SETTING)


def _data(record: Record) -> str:
    if record["per_class"] is not None:
        return f"{record['data']} {record['per_class']}/class"
    size = record["train_size"]
    return str(record["data"]) if size is None else f"{record['data']} {size}"
