"""One label out of several: column `label`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, Row, checked_text
from effine.runtime.labels import balanced_weights, encode_labels
from effine.runtime.metrics import accuracy, macro_f1
from effine.runtime.predictions import TextPrediction
from effine.runtime.tasks import Samples, Task, task


def checked_label(where: str, value: object) -> str:
    """A label; numbers count as their text.

    Raises:
        DataError: it is empty or can't be a label.
    """
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    if absent or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: the label is empty; fill it in or remove the line")
    if isinstance(value, Real) and not isinstance(value, bool):
        return str(value)
    return checked_text(where, "label", value)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, in binary64."""
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


@task
class Classification(Task):
    """Accuracy and macro-F1 of the likeliest label."""

    name = "classification"
    metrics = ("accuracy", "macro_f1")
    target = "label"

    def value(self, row: Row) -> object:
        """The label."""
        return checked_label(row.origin, row.values["label"])

    def targets(self, examples: Sequence[Example], labels: Sequence[str], rows: int) -> np.ndarray:
        """Positions of the labels, [N] int64."""
        return encode_labels(examples, labels)

    def balanced_weights(self, samples: Samples, n: int) -> np.ndarray:
        """The inverse frequency of each example's label, with mean 1."""
        return balanced_weights(samples.labels, n)

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """Accuracy and macro-F1."""
        predicted = np.stack(outputs).argmax(axis=1)
        return {
            "accuracy": accuracy(predicted, samples.labels),
            "macro_f1": macro_f1(predicted, samples.labels),
        }

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[TextPrediction]:
        """The likeliest label and all probabilities."""
        made = []
        for logits in outputs:
            shares = softmax(logits)
            named = dict(zip(labels, shares.tolist(), strict=True))
            made.append(TextPrediction(labels[int(shares.argmax())], named))
        return made

    def collapse(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> str | None:
        """A warning if there is one label for all of several examples."""
        if len(outputs) < 2 or len({int(logits.argmax()) for logits in outputs}) > 1:
            return None
        return (
            "every prediction on the evaluation data is the same label: the classes are "
            "unbalanced (try class weights 'balanced') or training is too short"
        )
