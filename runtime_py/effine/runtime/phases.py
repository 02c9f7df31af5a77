"""Phases of training and the way from one to another, as data that any host can apply.

A phase has train methods of its own, `{phase}_b{batch}_s{seq}`. Its other methods are
`{phase}.{kind}_b{batch}_s{seq}` where it has its own and `{kind}_...` where it shares those of
the first phase; `kind` is `backbone`, `predict`, `accumulate` or `apply`. The state of a phase
are the tensors that its methods read or update. An artifact without phases trains in one, `train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from effine.runtime.codec import Count, Name, Shape, one_of
from effine.runtime.engines import Arrays

TRAIN = "train"
PARTS = ("backbone", "predict", "accumulate", "apply")
StateRole = Annotated[str, one_of("parameter", "moment", "statistic")]


@dataclass(frozen=True)
class Phase:
    """A stretch of training; `layers_below` is how many encoder layers its backbone runs."""

    layers_below: Count


@dataclass(frozen=True)
class Rows:
    """Rows `indices` along `axis`: taken from `source` (gather), or put into `target` (scatter).

    `indices` names a list of indices that the policy computes.
    """

    source: Name
    target: Name
    indices: Name
    axis: Count


@dataclass(frozen=True)
class Transition:
    """How the state of any of the phases `sources` becomes that of the phase `target`.

    Each tensor of the target is zero if its role is in `zero`, made of rows if it is a target of
    `gather` or `scatter`, and otherwise a copy. A phase may lead to itself.
    """

    sources: tuple[Name, ...]
    target: Name
    zero: tuple[StateRole, ...]
    gather: tuple[Rows, ...] = ()
    scatter: tuple[Rows, ...] = ()

    @property
    def restarts(self) -> bool:
        """Whether the optimizer starts afresh."""
        return "moment" in self.zero


@dataclass(frozen=True)
class StateTensor:
    """A tensor of the state; its order in the manifest is its order in files.

    The group is that of a parameter's learning rate, or what a policy adds a statistic up for.
    """

    name: Name
    shape: Shape
    dtype: Annotated[str, one_of("float32")]
    role: StateRole
    group: Name


def statistic_name(parameter: str) -> str:
    """The state's name of what a policy wants added up of a parameter."""
    return f"{parameter}.drift"


def moved(
    transition: Transition,
    layout: Iterable[StateTensor],
    state: Mapping[str, np.ndarray],
    indices: Mapping[str, np.ndarray],
) -> Arrays:
    """The state of the target phase, whose layout is given; copied arrays are shared."""
    rows = {row.target for row in (*transition.gather, *transition.scatter)}
    result: Arrays = {}
    for entry in layout:
        if entry.role in transition.zero or entry.name in rows:
            result[entry.name] = np.zeros(entry.shape, np.float32)
        else:
            result[entry.name] = state[entry.name]
    for row in transition.gather:
        result[row.target] = np.take(state[row.source], indices[row.indices], row.axis)
    for row in transition.scatter:
        along = np.moveaxis(result[row.target], row.axis, 0)
        along[indices[row.indices]] = np.moveaxis(state[row.source], row.axis, 0)
    return result


def unmakeable(
    transition: Transition, before: Iterable[StateTensor], after: Iterable[StateTensor]
) -> Iterator[str]:
    """What a transition asks for that the layout before it doesn't have."""
    shapes = {entry.name: entry.shape for entry in before}
    rows = (*transition.gather, *transition.scatter)
    made = {row.target for row in rows}
    copied = {e.name: e.shape for e in after if e.role not in transition.zero}
    missing = [row.source for row in rows if row.source not in shapes]
    missing += [n for n, shape in copied.items() if n not in made and shapes.get(n) != shape]
    for name in missing:
        yield f"transitions: {transition.target!r} can't be made: it lacks {name!r} as needed"
