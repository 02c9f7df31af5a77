"""`--max-memory`: settings that keep training within a bound, chosen before the export."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from effine.export.errors import ExportError
from effine.runtime.manifest_fields import MemoryInfo

_SHORTEST = 16


@dataclass(frozen=True)
class Plan:
    """What memory depends on, for a given model and method.

    Args:
        precision: of the frozen weights.
        batch, accumulate: rows of a batch, and batches of an update.
        first_layer: the first block with pieces, None for the method's own.
        seq: the longest sequence.
        layers: blocks of the encoder that may have pieces; 0 if the method has none there.
        recompute: whether results are computed again for the backward pass.
    """

    precision: str
    batch: int
    accumulate: int
    first_layer: int | None
    seq: int
    layers: int
    recompute: bool = False

    def options(self, beside: Plan) -> str:
        """The options that turn `beside` into this plan."""
        named = {
            "backbone-precision": "precision",
            "batch": "batch",
            "accumulate": "accumulate",
            "first-layer": "first_layer",
            "seq": "seq",
        }
        changed = [
            f"--{option} {getattr(self, field)}"
            for option, field in named.items()
            if getattr(self, field) != getattr(beside, field)
        ]
        if self.recompute and not beside.recompute:
            changed.append("--recompute")
        return " ".join(changed)


def within(
    limit: int, wanted: Plan, fixed: frozenset[str], estimate: Callable[[Plan], MemoryInfo]
) -> Plan:
    """The first plan that fits: as wanted, in int8, recomputing, smaller batches, a higher cut.

    Smaller batches are summed up, so that an update has as many examples as before.

    Args:
        limit: bytes.
        fixed: fields of the plan that may not change.

    Raises:
        ExportError: none fits; the message says which settings would.
    """
    known: dict[Plan, int] = {}

    def fits(plan: Plan) -> bool:
        known[plan] = estimate(plan).peak
        return known[plan] <= limit

    for plan in _milder(wanted, fixed):
        if fits(plan):
            return plan
    least = min(known.values())
    for plan in (*_milder(wanted, frozenset()), *_shorter(wanted)):
        if plan not in known and fits(plan):
            remedy = f"{plan.options(wanted)} would need {_mb(known[plan])}"
            break
    else:
        remedy = "no setting would fit; choose a smaller backbone or another method"
    raise ExportError(f"--max-memory {_mb(limit)}: training needs {_mb(least)}; {remedy}")


def _milder(wanted: Plan, fixed: frozenset[str]) -> Iterator[Plan]:
    """Plans in the order in which they cost quality or time."""
    plan = wanted
    yield plan
    if "precision" not in fixed and plan.precision == "fp32":
        plan = dataclasses.replace(plan, precision="int8")
        yield plan
    if "recompute" not in fixed and not plan.recompute:
        plan = dataclasses.replace(plan, recompute=True)
        yield plan
    while not {"batch", "accumulate"} & fixed and plan.batch > 1:
        plan = dataclasses.replace(plan, batch=plan.batch // 2, accumulate=plan.accumulate * 2)
        yield plan
    if "first_layer" not in fixed:
        for layer in range((plan.first_layer or 1) + 1, plan.layers + 1):
            yield dataclasses.replace(plan, first_layer=layer)


def _shorter(wanted: Plan) -> Iterator[Plan]:
    """The mildest plans, and then shorter texts, which lose words."""
    *_, plan = _milder(wanted, frozenset())
    while plan.seq > _SHORTEST:
        plan = dataclasses.replace(plan, seq=plan.seq // 2)
        yield plan


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}MB"
