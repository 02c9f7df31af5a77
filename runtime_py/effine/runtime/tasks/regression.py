"""A score: column `score`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Real

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, Row, shown
from effine.runtime.metrics import pearson, spearman
from effine.runtime.predictions import TextPrediction
from effine.runtime.tasks import Samples, Task, task

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LARGEST = float(np.finfo(np.float32).max)


@task
class Regression(Task):
    """Correlations and squared error."""

    name = "regression"
    metrics = ("pearson", "spearman", "mse")
    target = "score"
    labelled = False

    def value(self, row: Row) -> object:
        """The score, which is finite in fp32."""
        value = row.values["score"]
        score = math.nan
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            score = float(value)
        elif isinstance(value, Real) and not isinstance(value, bool):
            try:
                score = float(value)
            except OverflowError:
                score = math.inf
        if not abs(score) <= _LARGEST:
            raise DataError(
                f"{row.origin}: score {shown(value)} is not a finite number; write one such as 3.5"
            )
        return score

    def outputs(self, labels: Sequence[str]) -> int:
        """One score."""
        return 1

    def targets(self, examples: Sequence[Example], labels: Sequence[str], rows: int) -> np.ndarray:
        """The scores, [N] float32."""
        return np.array([example.score for example in examples], np.float32)

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """Pearson's and Spearman's correlation, and the mean squared error."""
        scores = np.stack(outputs).reshape(-1).astype(np.float64)
        targets = samples.labels.astype(np.float64)
        return {
            "pearson": pearson(scores, targets),
            "spearman": spearman(scores, targets),
            "mse": float(np.square(scores - targets).mean()),
        }

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[TextPrediction]:
        """The scores."""
        return [TextPrediction(None, {}, float(logits[0])) for logits in outputs]
