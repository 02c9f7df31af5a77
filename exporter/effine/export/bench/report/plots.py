"""Plots as PNG files; each carries a digest of its data, so that a stale one is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Series = Mapping[str, Sequence[tuple[Any, float]]]


@dataclass(frozen=True)
class Plot:
    """What is drawn.

    Args:
        name: of the file, without a number.
        form: `bars` for categories on a logarithmic axis, `lines`, or `diagonal` for
            points that should lie on it.
        series: points (x, y) by the series' name; for bars x is the category.
    """

    name: str
    form: str
    title: str
    x: str
    y: str
    series: Series

    def digest(self) -> str:
        """A hash of everything drawn."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def draw(plot: Plot, path: Path) -> None:
    """Draw into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, _height(plot)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    (_bars if plot.form == "bars" else _points)(axes, plot)
    axes.set_title(plot.title)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Description": plot.digest(), "Software": None})


def is_drawn(plot: Plot, path: Path) -> bool:
    """Whether the file shows these data."""
    return path.is_file() and plot.digest().encode() in path.read_bytes()


def _height(plot: Plot) -> float:
    if plot.form != "bars":
        return 5.0
    return 1.5 + 0.22 * sum(len(points) for points in plot.series.values())


def _bars(axes: Any, plot: Plot) -> None:
    categories = list(dict.fromkeys(str(x) for points in plot.series.values() for x, _ in points))
    width = 0.8 / len(plot.series)
    for index, (name, points) in enumerate(plot.series.items()):
        places = [categories.index(str(x)) + (index + 0.5) * width - 0.4 for x, _ in points]
        axes.barh(places, [y for _, y in points], height=width, label=name)
    axes.set_yticks(range(len(categories)), categories, fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(plot.y)
    if plot.y == "ratio":
        axes.axvline(1.0, color="black", linewidth=1)


def _points(axes: Any, plot: Plot) -> None:
    style = "o" if plot.form == "diagonal" else "o-"
    for name, points in plot.series.items():
        ordered = sorted(points)
        axes.plot([x for x, _ in ordered], [y for _, y in ordered], style, label=name)
    if plot.form == "diagonal":
        longest = max(y for points in plot.series.values() for _, y in points)
        axes.plot([0, longest], [0, longest], color="black", linewidth=1)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.set_ylim(bottom=0)
