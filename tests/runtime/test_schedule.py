import json
import math
from pathlib import Path

import numpy as np
import pytest

from effine.runtime.errors import EffineError
from effine.runtime.schedule import COEFFICIENTS, SCHEDULES, cos_pi, rate

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/schedule.json").read_text())


def rates(schedule: str, total: int, warmup: float, peak: float = 1.0) -> list[float]:
    return [float(rate(schedule, peak, update, total, warmup)) for update in range(total)]


def test_the_coefficients_are_the_taylor_series_of_the_sine():
    for k, coefficient in enumerate(COEFFICIENTS):
        exact = (-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1)
        assert coefficient == pytest.approx(exact, rel=1e-14)


def test_the_cosine_is_close_to_the_library():
    points = np.linspace(0, 1, 10_001)
    errors = [abs(cos_pi(p) - math.cos(math.pi * p)) for p in points.tolist()]
    assert max(errors) < 1e-15


def test_the_cosine_agrees_with_the_vectors():
    for case in VECTORS["cos_pi"]:
        assert cos_pi(float.fromhex(case["p"])).hex() == case["result"]


@pytest.mark.parametrize("case", VECTORS["rates"], ids=lambda c: f"{c['schedule']}-{c['total']}")
def test_rates_agree_with_the_vectors(case):
    peak, warmup = float.fromhex(case["peak"]), float.fromhex(case["warmup"])
    made = rates(case["schedule"], case["total"], warmup, peak)
    assert [value.hex() for value in made] == case["rates"]


def test_constant():
    assert rates("constant", 4, 0.0) == [1.0] * 4


def test_linear_reaches_the_peak_then_falls_evenly():
    assert rates("linear", 6, 0.3) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_cosine_without_warmup():
    expected = [0.5 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    assert rates("cosine", 8, 0.0) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_over_all_updates(schedule):
    assert rates(schedule, 4, 1.0) == [0.25, 0.5, 0.75, 1.0]


def test_rates_are_float32_rounded_once():
    value = rate("cosine", 1e-3, 3, 10, 0.0)
    assert isinstance(value, np.float32)
    assert value == np.float32(1e-3 * 0.5 * (1 + cos_pi(0.3)))


def test_unknown_schedule_and_warmup_out_of_range():
    with pytest.raises(EffineError, match="'cosin' is unknown; use one of constant, linear"):
        rate("cosin", 1.0, 0, 1, 0.0)
    with pytest.raises(EffineError, match="warmup 5"):
        rate("linear", 1.0, 0, 1, 5)
    with pytest.raises(EffineError, match="warmup nan"):
        rate("linear", 1.0, 0, 1, math.nan)
