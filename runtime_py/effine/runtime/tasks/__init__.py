"""Tasks: one file each with the columns of the data, targets, metrics and predictions.

The head and the loss are inside the programs, so they live in the exporter under the
task's name (`effine.export.tasks`).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from effine.runtime.errors import DataError, EffineError
from effine.runtime.examples import Example, Row
from effine.runtime.predictions import Prediction
from effine.runtime.tokenize import Tokenizer, Tokens


@dataclass(frozen=True)
class Samples:
    """Examples as the programs take them.

    Args:
        examples: what was read.
        tokens: token ids of each sample, without padding.
        owners: [N] int64, the example that each sample is from.
        labels: [N, ...] in the form that the task's loss takes, long enough for the longest
            program; zeros [N] for unlabelled data.
        truncated: how many texts were cut.
    """

    examples: Sequence[Example]
    tokens: Sequence[Tokens]
    owners: np.ndarray
    labels: np.ndarray
    truncated: int

    def __len__(self) -> int:
        return len(self.tokens)


class Task:
    """What is learned, as a device sees it. The defaults are those of whole texts and pairs.

    Outputs are a program's logits in use, for each sample: [C], or [L, C] for its L tokens.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    """What `evaluate` measures, the main metric first."""
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    """Columns that every row has."""
    target: ClassVar[str]
    """The column with what is to be learned."""
    labelled: ClassVar[bool] = True
    """Whether the rows of the head are labels with names."""
    per_token: ClassVar[bool] = False
    """Whether there are outputs for each token rather than for each sample."""
    hint: ClassVar[str] = '{"text": ...} with its label or score'
    """An example in memory, for error messages."""

    def columns(self, labelled: bool) -> tuple[str, ...]:
        """The columns that data must have."""
        return (*self.inputs, self.target) if labelled else self.inputs

    def read(self, row: Row, labelled: bool) -> Example:
        """The example that a row holds.

        Raises:
            DataError: a value can't be used.
        """
        paired = row.values.get("text_b") not in (None, "")
        target = {self.target: self.value(row)} if labelled else {}
        return Example(
            row.text("text"),
            row.text("text_b") if paired else None,
            origin=row.origin,
            **target,  # type: ignore[arg-type]
        )

    def value(self, row: Row) -> object:
        """What the target's column holds.

        Raises:
            DataError: it can't be used.
        """
        raise NotImplementedError

    def row(self, example: Example) -> dict[str, object]:
        """The inverse of `read`; None for what is absent."""
        target = getattr(example, self.target)
        return {"text": example.text, "text_b": example.text_b, self.target: target}

    def bare_row(self, item: object) -> Mapping[str, object] | None:
        """The columns of an unlabelled item that is no mapping; None if it can't be one."""
        return {"text": item} if isinstance(item, str) else None

    def outputs(self, labels: Sequence[str]) -> int:
        """The number of the head's rows in use."""
        return len(labels)

    def samples(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        max_length: int,
        labels: Sequence[str] | None = None,
        rows: int = 0,
    ) -> Samples:
        """Tokenize examples and encode what is to be learned.

        Args:
            labels: the labels in head order; None for unlabelled data.
            rows: all rows of the head, those without a label included.

        Raises:
            DataError: a label is unknown.
        """
        tokens = tokenizer.encode(examples, max_length)
        targets = np.zeros(len(examples))
        if labels is not None:
            targets = self.targets(examples, labels, rows)
        return Samples(examples, tokens, np.arange(len(examples)), targets, tokenizer.truncated)

    def targets(self, examples: Sequence[Example], labels: Sequence[str], rows: int) -> np.ndarray:
        """What is to be learned of each example, [N, ...]."""
        raise NotImplementedError

    def balanced_weights(self, samples: Samples, n: int) -> np.ndarray:
        """Weights [N] float32 that count rare labels more.

        Raises:
            DataError: the task has no label for each example.
        """
        raise DataError(
            f"--class-weights: task '{self.name}' has no label for each example; leave it out"
        )

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """All metrics, the main one first; there is at least one sample."""
        raise NotImplementedError

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[Prediction]:
        """A prediction for each example."""
        raise NotImplementedError

    def collapse(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> str | None:
        """A warning if the same is predicted whatever the input."""
        return None


_TASKS: dict[str, Task] = {}


def task(cls: type[Task]) -> type[Task]:
    """Register a task by its name."""
    _TASKS[cls.name] = cls()
    return cls


@functools.cache
def known_tasks() -> dict[str, Task]:
    """All tasks by name, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_TASKS.items()))


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        EffineError: the name is unknown.
    """
    found = known_tasks().get(name)
    if found is None:
        raise EffineError(f"task '{name}' is unknown; use one of {', '.join(known_tasks())}")
    return found
