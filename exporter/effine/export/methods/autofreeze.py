"""AutoFreeze: full tuning whose layers freeze from below as they settle. 2102.01386."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.methods import Options, RowSets, method, option
from effine.export.methods.full import WholeLayers, train
from effine.runtime.phases import Transition
from effine.runtime.policies.autofreeze import CUT

_EVERY_LAYER = 6
_LAYERS = "encoder.layers."


@dataclass(frozen=True)
class AutoFreezeOptions(Options):
    """Settings of AutoFreeze; the defaults are those of the authors."""

    intervals: int = option(20, "intervals of a run; a test follows each but the first")
    percentile: float = option(50.0, "layers below the first whose change reaches it freeze")
    least_updates: int = option(20, "updates of an interval, at the least; fewer are noise")


@method
class AutoFreeze(WholeLayers):
    """A phase `cutK` for each number K of frozen layers: all up to 6 layers, every second above."""

    name = "autofreeze"
    summary = "full tuning that freezes layers from below as they settle, and caches them"
    Options = AutoFreezeOptions

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        super().__init__(options, first_layer)
        if options.intervals < 1 or options.least_updates < 1:
            raise ExportError("--method-option intervals, least_updates: can't be less than 1")
        if not 0 <= options.percentile <= 100:
            raise ExportError("--method-option percentile: must be between 0 and 100")

    def install(self, encoder: Encoder) -> None:
        """Mark the layers.

        Raises:
            ExportError: layers share their weights, so that they can't freeze one by one.
        """
        if len(set(encoder.layers)) < encoder.depth:
            raise ExportError(
                f"--method autofreeze: the layers of '{encoder.architecture}' share their "
                "weights and can't freeze one by one; use full"
            )
        super().install(encoder)

    def phases(self, encoder: Encoder) -> tuple[str, ...]:
        """The ladder of cuts."""
        step = 1 if encoder.depth <= _EVERY_LAYER else 2
        return tuple(f"{CUT}{below}" for below in self.blocks(encoder)[::step])

    def enter(self, encoder: Encoder, phase: str, rows: RowSets | None = None) -> None:
        """Train the layers above the cut alone."""
        cut = int(phase.removeprefix(CUT))
        if self.trains_embedding_norm():
            train(encoder.embedding_norm, cut == 0)
        for index in self.blocks(encoder):
            train(encoder.layers[index], index >= cut)

    def transitions(self, encoder: Encoder) -> tuple[Transition, ...]:
        """A new interval; freezing, which forgets the moments; and starting all over."""
        ladder = self.phases(encoder)
        anew = ("moment", "statistic")
        found = [Transition((phase,), phase, ("statistic",)) for phase in ladder]
        found += [Transition(ladder[:i], ladder[i], anew) for i in range(1, len(ladder))]
        return (*found, Transition(ladder[1:], ladder[0], anew)) if ladder[1:] else tuple(found)

    def watches(self, parameter: str) -> str | None:
        """The layer that a parameter belongs to."""
        if not parameter.startswith(_LAYERS):
            return None
        return f"layers.{parameter.removeprefix(_LAYERS).partition('.')[0]}"
