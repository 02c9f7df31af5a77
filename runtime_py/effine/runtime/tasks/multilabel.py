"""Any number of labels: column `labels`, a list or one string with `|` between labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, Row, shown
from effine.runtime.labels import balanced_weights, encode_label_sets
from effine.runtime.metrics import label_f1
from effine.runtime.predictions import TextPrediction
from effine.runtime.tasks import Samples, Task, task
from effine.runtime.tasks.classification import checked_label

_BETWEEN = "|"


@task
class MultiLabel(Task):
    """F1 over all decisions and over labels; a label applies where its logit is above 0."""

    name = "multilabel"
    metrics = ("micro_f1", "macro_f1")
    target = "labels"

    def value(self, row: Row) -> object:
        """The labels that apply, each once."""
        value = row.values["labels"]
        if isinstance(value, str):
            parts = value.split(_BETWEEN) if value.strip() else []
            value = [part.strip() for part in parts]
        if not isinstance(value, list | tuple):
            raise DataError(
                f"{row.origin}: labels is {shown(value)}, not a list; "
                'write ["a", "b"], or [] for none'
            )
        labels = tuple(checked_label(row.origin, label) for label in value)
        repeated = next((label for label in labels if labels.count(label) > 1), None)
        if repeated is not None:
            raise DataError(f"{row.origin}: label {shown(repeated)} is given twice; remove one")
        return labels

    def targets(self, examples: Sequence[Example], labels: Sequence[str], rows: int) -> np.ndarray:
        """A 1 for each label that applies, [N, C] float32."""
        return encode_label_sets(examples, labels, rows)

    def balanced_weights(self, samples: Samples, n: int) -> np.ndarray:
        """The mean inverse frequency of each example's labels, with mean 1."""
        return balanced_weights(samples.labels, n)

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """Micro- and macro-F1."""
        logits = np.stack(outputs)
        return label_f1(logits > 0, samples.labels[:, : logits.shape[1]] > 0)

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[TextPrediction]:
        """The labels above one half, and all probabilities."""
        made = []
        for logits in outputs:
            shares = 0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))
            named = dict(zip(labels, shares.tolist(), strict=True))
            applying = tuple(name for name in named if named[name] > 0.5)
            made.append(TextPrediction(None, named, labels=applying))
        return made
