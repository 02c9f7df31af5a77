"""The ExecuTorch engine, over the Python binding of the stock runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from effine.runtime.artifact import Artifact
from effine.runtime.engines import WEIGHT_FILES, Arrays, ordered_inputs
from effine.runtime.errors import EngineError
from effine.runtime.manifest_fields import Program as ProgramInfo


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what native code writes to stderr: ExecuTorch reports harmless CPU look-ups there."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with _silent_stderr():
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Method, Program, Runtime, Verification

    portable_lib._threadpool_get_thread_count()


@dataclass
class _Loaded:
    """A program in memory, and those of its methods that have been needed."""

    program: Program
    methods: dict[str, Method] = field(default_factory=dict)


Loaded = dict[tuple[str, str], _Loaded]
"""Programs in memory by the SHA-256 of their file and that of their weights."""


class ExecuTorchEngine:
    """Runs an artifact's programs; methods are loaded when they are first needed.

    Args:
        artifact: a verified artifact.
        threads: size of the process-wide thread pool; by default ExecuTorch's own choice.
        loaded: what is in memory already, shared with other engines: what two artifacts have
            in common, byte by byte, is loaded once.
    """

    def __init__(
        self, artifact: Artifact, threads: int | None = None, loaded: Loaded | None = None
    ) -> None:
        self._artifact = artifact
        self._loaded: Loaded = {} if loaded is None else loaded
        self._methods: dict[str, Method] = {}
        if threads is not None:
            set_threads(threads)

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Execute a program method; see `Engine.run`."""
        spec = self._artifact.manifest.method(method)
        arguments = [torch.from_numpy(array) for array in ordered_inputs(method, spec, inputs)]
        loaded = self._methods.get(method) or self._load(method)
        try:
            outputs = loaded.execute(arguments)
        except RuntimeError as error:
            raise EngineError(f"{method}: ExecuTorch failed: {error}") from error
        named = zip(spec.outputs, outputs, strict=True)
        return {output.name: tensor.numpy() for output, tensor in named}

    def _load(self, method: str) -> Method:
        artifact = self._artifact
        program = artifact.manifest.program_of(method)
        files = artifact.manifest.files
        key = files[program.file].sha256, files[WEIGHT_FILES["xnnpack"]].sha256
        try:
            if key not in self._loaded:
                self._loaded[key] = _Loaded(load_runtime_program(artifact, program))
            found = self._loaded[key]
            if method not in found.methods:
                loaded: Any = found.program.load_method(method)
                found.methods[method] = loaded
        except RuntimeError as error:
            raise EngineError(
                f"{artifact.path}/{program.file}: method {method} can't be loaded: {error}"
            ) from error
        self._methods[method] = found.methods[method]
        return found.methods[method]


def load_runtime_program(
    artifact: Artifact, program: ProgramInfo, *, trace: bool = False
) -> Program:
    """Load a program with the frozen weights, fully verified.

    Args:
        trace: record the time of every operator.
    """
    return Runtime.get().load_program(
        artifact.file(program.file),
        data_path=artifact.file(WEIGHT_FILES["xnnpack"]),
        verification=Verification.InternalConsistency,
        enable_etdump=trace,
    )


def set_threads(count: int) -> None:
    """Set the size of ExecuTorch's process-wide thread pool."""
    with _silent_stderr():
        portable_lib._unsafe_reset_threadpool(count)
