"""Which operators of a program aren't delegated to XNNPACK, and what they cost."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from executorch.devtools import Inspector

from effine.export.errors import ExportError
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import load_runtime_program, set_threads

RUNS = 10
_WHOLE = "Method::execute"
_DELEGATE = "DELEGATE_CALL"
_OPERATOR = "native_call_"


@dataclass(frozen=True)
class Operator:
    """An operator outside delegates: how often a run calls it, and its time in a run."""

    name: str
    calls: int
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """One program method.

    Args:
        delegates: how many parts XNNPACK runs.
        ms: the median time of a run.
        outside: the share of it that is spent outside delegates.
        operators: what is outside, the most expensive first.
    """

    method: str
    delegates: int
    ms: float
    outside: float
    operators: tuple[Operator, ...]


def profile(artifact: Artifact, threads: int | None = None) -> list[Profile]:
    """Profile a training step's methods and prediction, at the longest sequence.

    The inputs are ones: the kernels' time doesn't depend on the values. ExecuTorch's
    tracing is on, which makes each operator a little slower.

    Raises:
        ExportError: the programs aren't ExecuTorch's.
    """
    target = artifact.manifest.target.name
    if target != "xnnpack":
        raise ExportError(f"{artifact.path}: --ops times ExecuTorch programs, these are {target}")
    if threads is not None:
        set_threads(threads)
    manifest = artifact.manifest
    batch, seq = manifest.shapes.batch, manifest.shapes.seqs[-1]
    methods = (
        *([manifest.backbone_method(batch, seq)[0]] if manifest.has_backbone else []),
        manifest.train_method(seq)[0],
        manifest.predict_method(1, seq)[0],
    )
    return [_profile(artifact, method) for method in methods]


def _profile(artifact: Artifact, name: str) -> Profile:
    manifest = artifact.manifest
    state = artifact.initial_state()
    arguments = [
        torch.from_numpy(state.get(spec.name, np.ones(spec.shape, spec.dtype)).copy())
        for spec in manifest.method(name).inputs
    ]
    program = load_runtime_program(artifact, manifest.program_of(name), trace=True)
    method: Any = program.load_method(name)
    for _ in range(RUNS):
        method.execute(arguments)
    with TemporaryDirectory(prefix="effine-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dump = Path(folder, "profile.etdump")
        program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".buffer")))
        events = [
            event
            for block in Inspector(etdump_path=str(dump)).event_blocks
            for event in block.events
            if not event.is_delegated_op and event.perf_data is not None
        ]
    return _summary(name, events)


def _summary(name: str, events: list[Any]) -> Profile:
    (whole,) = [_runs(event) for event in events if event.name == _WHOLE]
    inside = [_runs(event) for event in events if event.name == _DELEGATE]
    outside: dict[str, list[np.ndarray]] = defaultdict(list)
    for event in events:
        if event.name.startswith(_OPERATOR):
            outside[event.name.removeprefix(_OPERATOR)].append(_runs(event))
    operators = [
        Operator(op, len(runs), _median(sum(runs)), _median(sum(runs) / whole))
        for op, runs in outside.items()
    ]
    return Profile(
        name,
        len(inside),
        _median(whole),
        _median(1.0 - sum(inside) / whole),
        tuple(sorted(operators, key=lambda operator: -operator.ms)),
    )


def _runs(event: Any) -> np.ndarray:
    """The event's milliseconds in each run."""
    return np.array(event.perf_data.raw)


def _median(runs: Any) -> float:
    return float(np.median(runs))
