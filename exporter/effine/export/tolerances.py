"""Limits of the parity checks, and why those of a quantised backbone can't be fixed.

Rounding to 8 bits amplifies: a difference of 1e-6, from adding up in another order, now
and then moves a value to the next step of its grid, a change of 1e-2 that moves more
values in the next layer. So two correct engines differ by as much as the depth and the
data let this grow. It is measured: the reference runs again with noise of 1e-6 on all
that is rounded, and the limits are at least a multiple of the differences that follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from effine.runtime.manifest_fields import Tolerances
from effine.runtime.parity import errors

REASON = (
    "rounding amplifies differences of 1e-6 between engines; limits are at least "
    "{margin:g} times what such noise does to the reference: {measured}"
)
_MARGIN = 3.0
_FP32 = Tolerances()
_INT8 = Tolerances(
    gradient=2e-2, loss=2e-2, change=5e-2, change_tensor=0.2, cosine=0.999, cosine_fp32=0.99
)
_TOLERANCES = {
    "fp32": _FP32,
    "int8": _INT8,
    "int4": dataclasses.replace(_INT8, cosine_fp32=0.97),
}
_CHECKS = {
    "gradients": "gradient",
    "loss": "loss",
    "change of all parameters": "change",
    "change per tensor": "change_tensor",
}

Arrays = dict[str, np.ndarray]


def tolerances(precision: str, golden: Arrays, disturbed: Sequence[Arrays]) -> Tolerances:
    """The limits for an artifact.

    Args:
        golden: the golden run.
        disturbed: the same run with noise, for a quantised backbone.
    """
    limits = _TOLERANCES[precision]
    if not disturbed:
        return limits
    runs = [errors(golden, result, limits) for result in disturbed]
    worst = {name: max(run[name] for run in runs) for name in runs[0]}
    least = 1.0 - _MARGIN * max(worst["features"], worst["logits"])
    raised = {
        field: max(getattr(limits, field), _MARGIN * worst[name]) for name, field in _CHECKS.items()
    }
    measured = ", ".join(f"{name} {worst[name]:.2g}" for name in ("features", "logits", *_CHECKS))
    return dataclasses.replace(
        limits,
        **raised,
        cosine=min(limits.cosine, max(least, limits.cosine_fp32)),
        reason=REASON.format(margin=_MARGIN, measured=measured),
    )
