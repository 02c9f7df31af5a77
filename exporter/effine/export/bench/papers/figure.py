"""What follows from a paper's records: figures beside the paper's, and the arms behind them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effine.export.bench.papers.work import Dims, Rates
from effine.export.bench.records import Record

ACCURACY = "accuracy"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Args:
        epoch_s: mean seconds of an epoch.
        peak: resident memory in bytes.
        score: mean accuracy over the seeds.
    """

    epoch_s: float | None = None
    peak: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Figure:
    """One of effine's figures beside the paper's.

    Args:
        quoted: the paper's figure with its tag; `-` if it has none.
        value: effine's.
        goal: what it has to reach; None where nothing is promised.
        higher: whether more is better.
        form: how values are printed.
        bound: what arithmetic allows, with the numbers it follows from.
        own, base: what is compared with what.
    """

    what: str
    quoted: str
    value: float
    goal: float | None
    form: str
    bound: str
    higher: bool = False
    own: Side = Side()
    base: Side = Side()

    @property
    def apart(self) -> float | None:
        """By how much the goal is missed; 0 or less if it is reached."""
        if self.goal is None:
            return None
        return self.goal - self.value if self.higher else self.value - self.goal


class Findings:
    """The records of one paper under the same settings."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    @property
    def setting(self) -> Mapping[str, Any]:
        """What the records share, and the first one's own."""
        setting: Mapping[str, Any] = self.records[0]["setting"]
        return setting

    def part(self, part: str, arm: str | None = None) -> list[Record]:
        """The records of a part, or of one arm in it."""
        return [
            record
            for record in self.records
            if record["setting"]["part"] == part and arm in (None, record["setting"]["arm"])
        ]

    def one(self, part: str, arm: str | None = None) -> Record | None:
        """A part's record, the only one of its kind."""
        return next(iter(self.part(part, arm)), None)

    def side(self, arm: str) -> Side:
        """What the runs of an arm took and reached."""
        return side_of(self.part("run", arm), self.one("memory", arm))

    def pairs(self, arm: str, base: str) -> list[tuple[Record, Record]]:
        """The runs of two arms with the same seed."""
        theirs = {run["setting"]["seed"]: run for run in self.part("run", base)}
        return [
            (run, theirs[run["setting"]["seed"]])
            for run in self.part("run", arm)
            if run["setting"]["seed"] in theirs
        ]

    def lost(self, arm: str, base: str) -> float | None:
        """Points by which an arm scores less than another, mean over seeds."""
        found = [
            100 * (theirs["scores"][ACCURACY] - own["scores"][ACCURACY])
            for own, theirs in self.pairs(arm, base)
        ]
        return statistics.mean(found) if found else None

    def speedup(self, arm: str, base: str) -> float | None:
        """How often an arm's whole training fits into another's, mean over seeds."""
        pairs = self.pairs(arm, base)
        found = [sum(theirs["epoch_s"]) / sum(own["epoch_s"]) for own, theirs in pairs]
        return statistics.mean(found) if found else None


def points_lost(
    found: Findings, what: str, arm: str, base: str, quoted: str = "-", goal: float | None = None
) -> list[Figure]:
    """The points that an arm scores less than another; nothing without runs of both."""
    lost = found.lost(arm, base)
    if lost is None:
        return []
    return [
        Figure(
            what=f"{what}: points lost against {base}",
            quoted=quoted,
            value=lost,
            goal=goal,
            form="+.2f",
            bound="Which of two scores is higher has no bound by arithmetic.",
            own=found.side(arm),
            base=found.side(base),
        )
    ]


def side_of(runs: Sequence[Mapping[str, Any]], memory: Mapping[str, Any] | None) -> Side:
    """What runs took and reached, and the peak of a training."""
    seconds = [second for run in runs for second in run["epoch_s"]]
    return Side(
        statistics.mean(seconds) if seconds else None,
        None if memory is None else memory["peak"],
        statistics.mean(run["scores"][ACCURACY] for run in runs) if runs else None,
    )


def dims_in(record: Record) -> Dims:
    """The backbone's sizes in a record."""
    return Dims(**record["dims"])


def rates_in(record: Record) -> Rates:
    """The machine's rates in a record."""
    return Rates(**record["rates"])


def phase_in(record: Record, phase: str | None = None) -> Mapping[str, Any]:
    """What a record says of a phase, by default the first."""
    phases = record["phases"]
    found: Mapping[str, Any] = phases[phase] if phase else next(iter(phases.values()))
    return found
