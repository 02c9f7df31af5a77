"""The estimate of what a cache saves."""

from __future__ import annotations

import numpy as np
import pytest

from effine.runtime.break_even import Estimate, Sample, Speed, estimate
from effine.runtime.tokenize import Tokens

NOTHING = Tokens(np.zeros(1, np.int64), np.zeros(1, np.int64))


def samples(count: int, uses: int, stored: int = 0) -> list[Sample]:
    return [Sample(NOTHING, 10, 100, uses, index < stored) for index in range(count)]


def test_each_sample_is_computed_once_and_then_read() -> None:
    found = estimate(samples(5, uses=4), 40, 10**6, Speed(0.1, 0.002, 0.001))
    assert (found.samples, found.fitting, found.size) == (5, 5, 540)
    assert found.seconds == pytest.approx(5 * 4 * 1.0)
    assert found.saved == pytest.approx(5 * (3 * (1.0 - 0.1) - 0.2))


def test_what_is_stored_before_is_only_read() -> None:
    found = estimate(samples(5, uses=1, stored=3), 340, 10**6, Speed(0.1, 0.002, 0.001))
    assert found.size == 540
    assert found.saved == pytest.approx(3 * (1.0 - 0.1) - 2 * 0.2)


def test_beyond_the_bound_nothing_is_saved() -> None:
    found = estimate(samples(5, uses=2, stored=1), 140, 300, Speed(0.1, 0.0, 0.0))
    assert (found.fitting, found.size) == (2, 240)
    assert found.saved == pytest.approx(2 + 1)
    assert found.seconds == pytest.approx(10)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            Estimate(1000, 1000, 34_000_000, 40.4, 11.9),
            "34 MB for 1,000 samples, saves about 12 s of 40 s",
        ),
        (
            Estimate(12_000, 740, 4_200_000, 4321.0, 0.5),
            "4.20 MB for 740 of 12,000 samples, saves about 0.50 s of 4,321 s",
        ),
        (Estimate(2, 2, 1, 0.1, -0.1), "0.00 MB for 2 samples, saves nothing of 0.10 s"),
    ],
)
def test_the_estimate_is_told_in_a_line(found: Estimate, text: str) -> None:
    assert str(found) == text
