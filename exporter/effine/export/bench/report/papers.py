"""The page's section on the papers' comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effine.export.bench.papers import PAPERS, Paper, findings
from effine.export.bench.papers.figure import Figure, Findings, Side
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.report.text import megabytes, table, threads

_HEADER = (
    *("figure", "paper", "effine", "reached"),
    *("seconds an epoch", "peak memory", "score", "conditions"),
)


def papers_body(records: Sequence[Record]) -> str:
    """A table for each paper and setting; below it what isn't reached, with its bound."""
    parts = []
    for name, groups in findings(records).items():
        told = [part for group in groups for part in _told(PAPERS[name], group) if part]
        parts += [f"### {PAPERS[name].title}", *told] if told else []
    return "\n\n".join(parts)


def _told(paper: Paper, group: Findings) -> tuple[str, str]:
    """The table and the lines below it, either empty if there is nothing to tell."""
    figures = paper.figures(group)
    rows = [_row(figure, group) for figure in figures]
    missed = [_missed(figure) for figure in figures if (figure.apart or 0) > 0]
    return table(_HEADER, rows) if rows else "", "\n".join(missed + paper.notes(group))


def papers_plots(records: Sequence[Record]) -> list[Plot]:
    """Those of every paper and setting."""
    return [
        plot
        for name, groups in findings(records).items()
        for group in groups
        for plot in PAPERS[name].plots(group)
    ]


def conditions(group: Findings) -> str:
    """The settings that a group shares, in words."""
    setting = group.setting
    size = "all examples" if setting["examples"] is None else f"{setting['examples']} examples"
    seeds = {r["setting"]["seed"] for r in group.records} - {None}
    epochs = f", {setting['epochs']} epochs" if setting["epochs"] else ""
    counted = f", seeds: {len(seeds)}" if seeds else ""
    return (
        f"{setting['model']} {setting['precision']}, {setting['data']} ({size}{epochs}), "
        f"B={setting['batch']}, {threads(setting['threads'])}{counted}"
    )


def _row(figure: Figure, group: Findings) -> list[str]:
    return [
        figure.what,
        figure.quoted,
        f"{figure.value:{figure.form}}",
        _reached(figure),
        _both(figure, lambda side: side.epoch_s, lambda value: f"{value:.1f}"),
        _both(figure, lambda side: side.peak, megabytes),
        _both(figure, lambda side: side.score, lambda value: f"{100 * value:.2f}"),
        conditions(group),
    ]


def _reached(figure: Figure) -> str:
    if figure.goal is None or figure.apart is None:
        return "-"
    goal = f"{figure.goal:{figure.form}}"
    return f"yes, {goal}" if figure.apart <= 0 else f"no, {goal}"


def _missed(figure: Figure) -> str:
    return (
        f"- {figure.what}: {figure.value:{figure.form}} instead of "
        f"{figure.goal:{figure.form}}, {figure.apart:{figure.form}} apart. {figure.bound}"
    )


def _both(
    figure: Figure, choose: Callable[[Side], float | None], show: Callable[[float], str]
) -> str:
    values = [choose(side) for side in (figure.own, figure.base)]
    if values == [None, None]:
        return "-"
    return " / ".join("-" if value is None else show(value) for value in values)
