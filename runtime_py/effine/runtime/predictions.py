"""What a model says of an example, in the form that an app works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHOWN = 3


class Prediction:
    """A dataclass with what was predicted; as a string, one line for people."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """What was chosen, without its probability: one thing or a fixed number of them."""
        raise NotImplementedError


@dataclass(frozen=True)
class TextPrediction(Prediction):
    """A label with the probabilities of all labels, a score, or several labels.

    With `multilabel`, `labels` are those whose probability is above one half, and `label`
    is None.
    """

    label: str | None
    probabilities: dict[str, float]
    score: float | None = None
    labels: tuple[str, ...] | None = None

    @property
    def choices(self) -> tuple[Any, ...]:
        """The label, the labels or the score."""
        if self.score is not None:
            return (self.score,)
        return (self.label if self.labels is None else self.labels,)

    def __str__(self) -> str:
        """The likeliest labels, or the score.

        Where several labels may apply, those that do come first, or `none`.
        """
        if self.score is not None:
            return f"{self.score:.4f}"
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        parts = [f"{label} {share:.3f}" for label, share in ranked[:_SHOWN]]
        if self.labels is not None:
            applying = sorted(self.labels, key=lambda name: -self.probabilities[name])
            parts.insert(0, f"{', '.join(applying) or 'none'}:")
        return "  ".join(parts)
