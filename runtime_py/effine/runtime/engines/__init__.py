"""Engines execute an artifact's programs; everything else in the runtime is engine-neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from effine.runtime.errors import EngineError

if TYPE_CHECKING:
    from effine.runtime.artifact import Artifact
    from effine.runtime.manifest_fields import ProgramMethod

Arrays = dict[str, np.ndarray]
WEIGHT_FILES = {"xnnpack": "backbone.ptd", "onnx": "backbone.data"}
"""The file with the frozen weights, by the name of the target."""


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


def make_engine(artifact: Artifact, threads: int | None = None) -> Engine:
    """The engine for an artifact's target; only its own packages are imported.

    Args:
        artifact: a verified artifact.
        threads: that run an operator; by default the engine's own choice.

    Raises:
        EngineError: a package is missing.
    """
    if artifact.manifest.target.name == "onnx":
        from effine.runtime.engines.onnx import OnnxEngine

        return OnnxEngine(artifact, threads)
    from effine.runtime.engines.executorch import ExecuTorchEngine

    return ExecuTorchEngine(artifact, threads)


def ordered_inputs(
    method: str, spec: ProgramMethod, inputs: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The inputs in the program's order.

    Raises:
        EngineError: one is missing or has another shape or dtype.
    """
    ordered = []
    for wanted in spec.inputs:
        array = inputs.get(wanted.name)
        if array is None:
            raise EngineError(f"{method}: input {wanted.name} is missing")
        if array.shape != tuple(wanted.shape) or array.dtype != wanted.dtype:
            raise EngineError(
                f"{method}: input {wanted.name} is {array.dtype}{list(array.shape)}, "
                f"expected {wanted.dtype}{list(wanted.shape)}"
            )
        ordered.append(np.ascontiguousarray(array))
    return ordered
