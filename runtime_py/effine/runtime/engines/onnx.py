"""The ONNX engine, over stock ONNX Runtime, which knows nothing of training.

Importing this module raises EngineError where ONNX Runtime isn't installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, ordered_inputs
from effine.runtime.errors import EngineError

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as native
except ImportError as missing:
    raise EngineError(
        f"ONNX programs need ONNX Runtime ({missing}): pip install onnxruntime"
    ) from missing

_ERRORS_ONLY = 3
_FAILURES = tuple(
    kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


class OnnxEngine:
    """Runs an artifact's programs; each is loaded when it is first needed.

    Args:
        artifact: a verified artifact.
        threads: that run an operator; by default ONNX Runtime's own choice.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        self._artifact = artifact
        self._sessions: dict[str, Any] = {}
        self._options = onnxruntime.SessionOptions()
        self._options.log_severity_level = _ERRORS_ONLY
        if threads is not None:
            self._options.intra_op_num_threads = threads

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Execute a program method; see `Engine.run`."""
        spec = self._artifact.manifest.method(method)
        arrays = ordered_inputs(method, spec, inputs)
        session = self._sessions.get(method) or self._load(method)
        names = (entry.name for entry in spec.inputs)
        try:
            outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        except _FAILURES as error:
            raise EngineError(f"{method}: ONNX Runtime failed: {error}") from error
        return {entry.name: array for entry, array in zip(spec.outputs, outputs, strict=True)}

    def _load(self, method: str) -> Any:
        file = self._artifact.file(self._artifact.manifest.program_of(method).file)
        try:
            session = onnxruntime.InferenceSession(
                file, self._options, providers=["CPUExecutionProvider"]
            )
        except _FAILURES as error:
            raise EngineError(f"{file}: can't be loaded: {error}") from error
        self._sessions[method] = session
        return session
