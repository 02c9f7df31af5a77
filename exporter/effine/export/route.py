"""The golden run's way through the phases of a method, in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from effine.export.model import Model
from effine.runtime.phases import statistic_name


def turns(model: Model, steps: int) -> dict[int, str]:
    """The phases that a run of so many steps goes to, by the step before which it does.

    It goes through all of them, to each once more where a phase leads to itself, and back to
    the first where a way leads there.
    """
    ways = model.method.transitions(model.encoder)
    known = {(source, way.target) for way in ways for source in way.sources}
    first, last = model.phases[0], model.phases[-1]
    route = [*model.phases, first] if (last, first) in known else list(model.phases)
    begins = [index * steps // len(route) for index in range(len(route) + 1)]
    found = dict(zip(begins[1:-1], route[1:], strict=True))
    for phase, begin, end in zip(route, begins[:-1], begins[1:], strict=True):
        if (phase, phase) in known and end - begin > 1:
            found[(begin + end) // 2] = phase
    return found


class Route:
    """Puts a model into the phase of each step; starts in the first.

    `begins` has the first step of each phase, `sums` what the present state adds up.
    """

    def __init__(self, model: Model, steps: int) -> None:
        self._model = model
        self._turns = turns(model, steps)
        self._rows = model.method.any_rows(model.encoder)
        model.enter(model.phases[0])
        self.begins = {model.phase: 0}
        self.sums = Sums(model)
        for step in sorted(self._turns):
            self.begins.setdefault(self._turns[step], step)

    def indices(self) -> dict[str, np.ndarray]:
        """The rows that each transition takes."""
        return {f"indices.{at}.{name}": a for at in self._turns for name, a in self._rows.items()}

    def restarts(self, step: int) -> bool:
        """Go to the step's phase; returns whether the optimizer starts afresh."""
        if step not in self._turns:
            return False
        source, target = self._model.phase, self._turns[step]
        ways = self._model.method.transitions(self._model.encoder)
        way = next(way for way in ways if source in way.sources and way.target == target)
        self._model.enter(target, self._rows)
        if "statistic" in way.zero:
            self.sums = Sums(self._model)
        return way.restarts


class Sums:
    """Adds up what the method's policy wants of the parameters that it watches."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._before: dict[str, Tensor] = {}
        self.totals: dict[str, Tensor] = {}

    def before_step(self) -> None:
        """Add the gradients, before any clipping, or remember the parameters."""
        parameters = self._model.trainable()
        watched = {name: parameters[name] for name in self._model.watched()}
        if self._model.method.adds_up == "changes":
            self._before = {name: p.detach().clone() for name, p in watched.items()}
            return
        for name, parameter in watched.items():
            assert parameter.grad is not None
            self._add(name, parameter.grad)

    def after_step(self) -> None:
        """Add the changes."""
        for name, before in self._before.items():
            self._add(name, self._model.trainable()[name].detach() - before)

    def _add(self, name: str, value: Tensor) -> None:
        total = self.totals.get(statistic_name(name), torch.zeros_like(value))
        self.totals[statistic_name(name)] = total + value
