"""Engines execute an artifact's programs; everything else in the runtime is engine-neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

Arrays = dict[str, np.ndarray]


class Engine(Protocol):
    """What the trainer and parity need of an engine."""

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Execute a program method on named inputs.

        Args:
            method: a name from the manifest, unique over all programs.
            inputs: at least the arrays that the manifest lists for it, in any order.

        Returns:
            The outputs by name; the arrays belong to the caller.

        Raises:
            EngineError: an input is missing or has another shape or dtype, or the
                engine fails.
        """
        ...
