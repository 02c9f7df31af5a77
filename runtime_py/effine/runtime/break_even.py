"""Whether a feature cache pays: what it would save over a run, by speeds measured before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from effine.runtime.tokenize import Tokens


@dataclass(frozen=True)
class Passes:
    """A data set and how often a run goes through it."""

    samples: Sequence[Tokens]
    count: int


@dataclass(frozen=True)
class Sample:
    """A sample as the estimate sees it.

    Args:
        tokens: its tokens.
        padded: the sequence length at which its features are computed.
        size: bytes of its record.
        uses: how often a run needs its features.
        stored: whether the cache holds them already.
    """

    tokens: Tokens
    padded: int
    size: int
    uses: int
    stored: bool


@dataclass(frozen=True)
class Speed:
    """Seconds to compute features, per padded token, and to store and read them, per byte."""

    compute: float
    store: float
    read: float


@dataclass(frozen=True)
class Estimate:
    """What a cache would cost and save.

    Args:
        samples: how many there are.
        fitting: how many of them fit into the bound.
        size: bytes of the file in the end.
        seconds: time of all backbone passes without a cache.
        saved: how much of it the cache would save, less than 0 if it costs more.
    """

    samples: int
    fitting: int
    size: int
    seconds: float
    saved: float

    def __str__(self) -> str:
        part = "" if self.fitting == self.samples else f"{self.fitting:,} of "
        saved = f"about {_time(self.saved)}" if self.saved > 0 else "nothing"
        return (
            f"{megabytes(self.size)} for {part}{self.samples:,} samples, "
            f"saves {saved} of {_time(self.seconds)}"
        )


def estimate(samples: Iterable[Sample], size: int, bound: int, speed: Speed) -> Estimate:
    """Add up a run in which samples are stored in the given order until the bound is reached.

    Args:
        size: bytes of the cache file before the run.
        bound: its largest size.
    """
    total = fitting = 0
    seconds = saved = 0.0
    for sample in samples:
        total += 1
        compute = speed.compute * sample.padded
        seconds += compute * sample.uses
        if not sample.stored and size + sample.size > bound:
            continue
        fitting += 1
        reads = sample.uses
        if not sample.stored:
            size += sample.size
            reads -= 1
            saved -= speed.store * sample.size
        saved += reads * (compute - speed.read * sample.size)
    return Estimate(total, fitting, size, seconds, saved)


def megabytes(size: int) -> str:
    """Such as `34 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2f} s"
