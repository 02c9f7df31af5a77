"""Small artifacts, each exported once per test session, and data that they can learn."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.engines.executorch import ExecuTorchEngine

THINGS = ("lamp", "music", "alarm")
TAILS = (
    "on",
    "off now",
    "for me please",
    "later today",
    "once again",
    "in the small kitchen",
    "at home",
    "before we all go to bed",
)
BATCH = 4
PHASED = ("autofreeze", "far", "gates")
"""Methods with phases, whose many programs take long to lower."""
FEW_PHASES = {"gates": {"pieces": "lora", "keep": "0.5"}}
DROPS_TOKENS = "gates"
ON_TOKENS = ("token-classification", "question-answering")

Rows = list[dict[str, Any]]
Exported = Callable[..., Artifact]


def intents(shift: int = 0) -> Rows:
    """24 short texts in 3 classes, told apart by one word."""
    starts = [tail.split()[0] for tail in (*TAILS[shift:], *TAILS[:shift])]
    return [
        {"text": f"{thing} {start} {thing} {tail}", "label": thing}
        for start, tail in zip(starts, TAILS, strict=True)
        for thing in THINGS
    ]


def scores() -> Rows:
    """The same texts with a score that the same word sets."""
    return [{"text": row["text"], "score": float(THINGS.index(row["label"]))} for row in intents()]


def pairs() -> Rows:
    """Two texts about the same thing, or not."""
    first = intents()
    chosen = [first[(i + 3 + i % 2) % len(first)] for i in range(len(first))]
    return [
        {
            "text": row["text"],
            "text_b": other["text"],
            "label": "same" if row["label"] == other["label"] else "other",
        }
        for row, other in zip(first, chosen, strict=True)
    ]


def tags() -> Rows:
    """Texts about two things, one, or none of the three, told apart by their words."""
    chosen = [things for n in range(3) for things in itertools.combinations(THINGS, n)]
    return [
        {"text": f"{' '.join(things)} {tail}", "labels": list(things)}
        for tail in TAILS[:4]
        for things in chosen
    ]


def slots() -> Rows:
    """The same texts as words, with tags that the words themselves tell."""
    marks = {thing: f"B-{thing}" for thing in THINGS}
    marks |= {"later": "B-time", "today": "I-time", "small": "B-place", "kitchen": "I-place"}
    words = [row["text"].split() for row in intents()]
    return [{"tokens": text, "tags": [marks.get(word, "O") for word in text]} for text in words]


def questions() -> Rows:
    """Where is the thing? Behind its name in the context."""
    places = ("kitchen", "hall", "attic", "garden")
    return [
        {
            "question": f"where is the {thing}",
            "context": f"the {thing} is in {place} {tail}",
            "answers": [{"text": place, "start": len(f"the {thing} is in ")}],
        }
        for thing, place in itertools.product(THINGS, places)
        for tail in TAILS[:2]
    ]


DATA = {
    "classification": intents,
    "regression": scores,
    "pair": pairs,
    "multilabel": tags,
    "token-classification": slots,
    "question-answering": questions,
}


class Recorder:
    """An engine that counts what it runs."""

    def __init__(self, artifact: Artifact) -> None:
        self.inner = ExecuTorchEngine(artifact, threads=1)
        self.calls: list[str] = []

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self.calls.append(method)
        return self.inner.run(method, inputs)

    def count(self, prefix: str) -> int:
        return sum(call.startswith(prefix) for call in self.calls)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session that all of its workers share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def artifact(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A function that exports (method, architecture, task, precision, pooling, target), or
    opens what is there.

    With `accumulate`, as many smaller batches make one of the others'.
    For classification with bert, which training is tested on, `head`, `read` and `adapter` have
    two sequence lengths and `head` has two spare labels; `multilabel` has one, and
    `token-classification` has one and two lengths. Regression is on one layer to save time,
    but for `read`, which walks over the layers.
    """
    shared = shared_folder(tmp_path_factory)

    def exported(
        method: str,
        architecture: str = "bert",
        task: str = "classification",
        precision: str = "fp32",
        accumulate: int = 1,
        pooling: str | None = None,
        target: str = "xnnpack",
    ) -> Artifact:
        settings = (method, architecture, task, precision, accumulate, pooling, target)
        path = shared / f"{'-'.join(map(str, settings))}.effine"
        with FileLock(shared / f"{path.name}.lock"):
            if path.exists():
                return Artifact.open(path)
            shallow = task == "regression" and method != "read"
            plain = (architecture, task, precision) != ("bert", "classification", "fp32")
            tokens = task == "token-classification"
            spare = 2 if method == "head" and not plain else int(tokens or task == "multilabel")
            one = not tokens and (plain or method not in ("head", "read", "adapter"))
            return _quietly(
                export,
                str(tiny[f"{architecture}-shallow" if shallow else architecture]),
                method=method,
                options=FEW_PHASES.get(method, {}),
                task="classification" if task == "pair" else task,
                data=DATA[task](),
                seq="16" if one else "8,16",
                spare_labels=spare,
                batch=BATCH // accumulate,
                accumulate=accumulate,
                backbone_precision=precision,
                pooling=pooling,
                target=target,
                out=path,
            )

    return exported


def _quietly(call: Callable[..., Artifact], *args: Any, **options: Any) -> Artifact:
    """Call without torch's trace records, which pytest would keep; they take half the time."""
    logging.disable(logging.WARNING)
    try:
        return call(*args, **options)
    finally:
        logging.disable(logging.NOTSET)
