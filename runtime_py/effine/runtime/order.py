"""The order of samples: the same in every language for the same seed, epoch and lengths.

- SplitMix64 (Steele, Lea, Flood 2014), all arithmetic modulo 2^64.
- The generator of an epoch starts at mix(seed xor mix(epoch)).
- The samples are shuffled, taken in windows of 16 batches, sorted stably by exported
  length inside each window and cut into batches; then the window's batches are shuffled.
- A shuffle is Fisher-Yates from the end: for i = n-1 .. 1 swap i with uniform(i + 1).

`tests/vectors/order.json` holds test vectors for other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WINDOW = 16
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class SplitMix64:
    """A generator of unsigned 64-bit integers.

    Args:
        state: any integer; taken modulo 2^64.
    """

    def __init__(self, state: int) -> None:
        self._state = state & _MASK

    def next(self) -> int:
        """The next number, from 0 to 2^64 - 1."""
        self._state = (self._state + _GOLDEN) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self, bound: int) -> int:
        """A number from 0 to bound - 1, all equally likely: too large ones are drawn again."""
        limit = (1 << 64) - (1 << 64) % bound
        while (number := self.next()) >= limit:
            pass
        return number % bound

    def shuffle(self, items: list[Any]) -> None:
        """Shuffle in place."""
        for i in range(len(items) - 1, 0, -1):
            j = self.uniform(i + 1)
            items[i], items[j] = items[j], items[i]


def mix(number: int) -> int:
    """The first number of a generator that starts at `number`."""
    return SplitMix64(number).next()


def epoch_generator(seed: int, epoch: int) -> SplitMix64:
    """The generator of an epoch; epochs count from 0."""
    return SplitMix64(mix((seed & _MASK) ^ mix(epoch)))


def batches(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the samples of an epoch, batch by batch; one batch may be short.

    Args:
        lengths: the exported sequence length of each sample.
        batch: samples in a batch.
    """
    generator = epoch_generator(seed, epoch)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    result: list[list[int]] = []
    for start in range(0, len(order), WINDOW * batch):
        window = sorted(order[start : start + WINDOW * batch], key=lengths.__getitem__)
        grouped = [window[i : i + batch] for i in range(0, len(window), batch)]
        generator.shuffle(grouped)
        result += grouped
    return result
