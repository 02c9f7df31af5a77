"""AutoFreeze against full tuning, with the feature cache and without: time, score, freeze log."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

from effine.export.bench.papers.figure import (
    Figure,
    Findings,
    dims_in,
    phase_in,
    points_lost,
    rates_in,
)
from effine.export.bench.papers.work import Work, block_macs, step_macs
from effine.export.bench.papers.workbench import Arm, Measurement, Workbench
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot

NAME, TITLE = "autofreeze", "AutoFreeze (2102.01386) against full tuning"
FULL, CACHED, UNCACHED = "full", "AutoFreeze", "AutoFreeze without cache"
ARMS = {
    FULL: Arm("full"),
    CACHED: Arm("autofreeze"),
    UNCACHED: Arm("autofreeze", cache=False),
}
_CLAIMS = {
    CACHED: (2.0, "1.71x to 2.76x (C, code's README); up to 2.55x (C, abstract)"),
    UNCACHED: (1.57, "1.57x to 2.16x (C, code's README)"),
}
_LOST = 0.5


def measurements(bench: Workbench) -> list[Measurement]:
    """The machine's rates, then whole trainings."""
    return [
        bench.measurement(NAME, "machine", partial(_machine, bench)),
        *bench.runs(NAME, ARMS),
        *bench.memory(NAME, {name: ARMS[name] for name in (FULL, CACHED)}),
    ]


def figures(found: Findings) -> list[Figure]:
    """How often the training is faster, and points lost."""
    made: list[Figure] = []
    for arm, (goal, quoted) in _CLAIMS.items():
        speedup, machine = found.speedup(arm, FULL), found.one("machine")
        if speedup is None or machine is None:
            continue
        pairs = found.pairs(arm, FULL)
        most = statistics.mean(most_speedup(own, full, machine) for own, full in pairs)
        made += [
            Figure(
                what=f"{arm}: times as fast as full",
                quoted=quoted,
                value=speedup,
                goal=goal,
                form=".2f",
                bound=f"By multiplications and bytes moved, what the freeze log below left out "
                f"allows {most:.2f}.",
                higher=True,
                own=found.side(arm),
                base=found.side(FULL),
            ),
            *points_lost(found, arm, arm, FULL, "-0.13 to 0.08 (C, code's README)", _LOST),
        ]
    return made


def notes(found: Findings) -> list[str]:
    """The freeze log of each seed."""
    lines = []
    for run in found.part("run", CACHED):
        frozen = [
            f"epoch {decision['epoch']:.2f} {decision['phase']}" for decision in _freezing(run)
        ]
        log = ", ".join(frozen) or "no layer froze"
        lines.append(f"- Freeze log, seed {run['setting']['seed']}: {log}. {run['cache']}")
    return lines


def plots(found: Findings) -> list[Plot]:
    """Frozen layers over the epochs."""
    series = {}
    for run in found.part("run", CACHED):
        points = [(0.0, 0.0)]
        for decision in run["decisions"]:
            points += [(decision["epoch"], points[-1][1])]
            points += [(decision["epoch"], float(phase_in(run, decision["phase"])["below"]))]
        points.append((float(len(run["epoch_s"])), points[-1][1]))
        series[f"seed {run['setting']['seed']}"] = points
    if not series:
        return []
    return [Plot("autofreeze-log", "lines", "AutoFreeze", "epoch", "frozen layers", series)]


def most_speedup(own: Record, full: Record, machine: Record) -> float:
    """The speed-up that a run's freeze log allows by multiplications and bytes.

    Args:
        own: a run of AutoFreeze; with cache, blocks below the cut run once for each text that
            a phase sees.
        full: the run it is compared with.
        machine: its sizes and rates, and the mean tokens of a text.
    """
    dims, rates = dims_in(machine), rates_in(machine)
    tokens, batch = machine["tokens"], own["setting"]["batch"]
    cached = own["setting"]["arm"] == CACHED
    epochs = len(own["epoch_s"])
    each = -(-own["trained"] // batch)
    spent = Work(0.0)
    for phase, start, length in _stretches(own, epochs * each):
        about = phase_in(own, phase)
        below = about["below"]
        text = step_macs(dims, tokens, below=below, cached=cached)
        spent += Work(batch * text, about["moved"]) * length
        if cached:
            filled = batch * filling_updates(start, length, each)
            spent += Work(filled * below * block_macs(dims, tokens))
    step = Work(batch * step_macs(dims, tokens), phase_in(full)["moved"])
    return rates.seconds(step * (epochs * each)) / rates.seconds(spent)


def filling_updates(start: int, length: int, each: int) -> float:
    """How many updates' worth of texts a phase sees for the first time.

    Args:
        start: updates before the phase.
        length: its updates.
        each: updates of an epoch, which shows every text once in a new order.
    """
    begun = start % each
    fresh = min(length, each - begun)
    repeated = min(length - fresh, each) if begun else 0
    return fresh + repeated * begun / each


def _stretches(run: Record, total: int) -> Iterator[tuple[str, int, int]]:
    """Each phase with the updates before it and its own."""
    phase, start = next(iter(run["phases"])), 0
    for decision in _freezing(run):
        yield phase, start, decision["update"] - start
        phase, start = decision["phase"], decision["update"]
    yield phase, start, total - start


def _freezing(run: Record) -> Iterator[dict[str, Any]]:
    """The decisions that led to another phase."""
    phase = next(iter(run["phases"]))
    for decision in run["decisions"]:
        if decision["phase"] != phase:
            phase = decision["phase"]
            yield decision


def _machine(bench: Workbench) -> dict[str, Any]:
    tokens = statistics.mean(bench.lengths)
    return {**bench.machine(round(bench.settings.batch * tokens)), "tokens": tokens}
