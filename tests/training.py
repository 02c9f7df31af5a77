"""Short training runs in Python."""

from __future__ import annotations

import math

from artifacts import BATCH, intents
from effine.runtime.engines import Arrays
from effine.runtime.run import Callback, Progress
from effine.runtime.trainer import Trainer

FAST = {"head_rate": 0.05, "epochs": 8}
UPDATES = math.ceil(len(intents()) / BATCH)
"""Of an epoch over `intents()`."""


def same(a: Arrays, b: Arrays) -> bool:
    """Whether two states have the same tensors in the same order, bit for bit."""
    return list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


def stop_at(trainer: Trainer, update: int | None) -> Callback:
    """Cancels after an update."""

    def callback(progress: Progress) -> None:
        if progress.update == update:
            trainer.cancel()

    return callback
