"""Learning rates by update: binary64 arithmetic, rounded once to binary32.

Every language gets the same bits: only + - * / and ceil are used, in the order written,
each rounded by itself (no fused multiply-add: compile with -ffp-contract=off).
`tests/vectors/schedule.json` holds test vectors.

With t the update from 0, w = ceil(warmup * total) and p = (t - w) / max(1, total - w):

    t < w       (peak * (t + 1)) / w
    constant    peak
    linear      peak * (1 - p)
    cosine      (peak * 0.5) * (1 + cos_pi(p))

cos_pi(p) is cos(pi * p) for p from 0 to 1, as -sin(pi * x) with x = p - 0.5 and the Taylor
polynomial of the sine: with z = x * x and the coefficients S[0] to S[9] below,

    s = S[9];  for k = 8 .. 0: s = s * z + S[k];  cos_pi = -(s * x)

Its error is below 1e-15.
"""

from __future__ import annotations

import math

import numpy as np

from effine.runtime.errors import EffineError

SCHEDULES = ("constant", "linear", "cosine")
COEFFICIENTS = (
    3.141592653589793,
    -5.16771278004997,
    2.5501640398773455,
    -0.5992645293207921,
    0.08214588661112823,
    -0.0073704309457143504,
    0.00046630280576761255,
    -2.1915353447830217e-05,
    7.952054001475513e-07,
    -2.2948428997269873e-08,
)


def rate(schedule: str, peak: float, update: int, total: int, warmup: float) -> np.float32:
    """The learning rate of an update.

    Args:
        schedule: `constant`, `linear` or `cosine`.
        peak: the rate at the end of the warm-up.
        update: from 0 to total - 1.
        total: updates of the whole run.
        warmup: share of the updates that warm up, from 0 to 1.

    Raises:
        EffineError: the schedule is unknown or the warm-up out of range.
    """
    if schedule not in SCHEDULES:
        raise EffineError(f"schedule '{schedule}' is unknown; use one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup <= 1:
        raise EffineError(f"warmup {warmup} is not a share of the updates; use 0 to 1")
    warm = math.ceil(warmup * total)
    if update < warm:
        return np.float32(peak * (update + 1) / warm)
    progress = (update - warm) / max(1, total - warm)
    if schedule == "linear":
        return np.float32(peak * (1.0 - progress))
    if schedule == "cosine":
        return np.float32(peak * 0.5 * (1.0 + cos_pi(progress)))
    return np.float32(peak)


def cos_pi(p: float) -> float:
    """The cosine of pi * p for p from 0 to 1."""
    x = p - 0.5
    z = x * x
    s = COEFFICIENTS[-1]
    for coefficient in COEFFICIENTS[-2::-1]:
        s = s * z + coefficient
    return -(s * x)
