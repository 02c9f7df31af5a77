"""`effine bench shapes`: one program for every sequence length, or a method for each of a few."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from effine.export.bench.dynamic import RATE, TRACED, DynamicStep, dynamic_program
from effine.export.bench.own import program_turns
from effine.export.bench.process import forget_peak, in_fresh_process, peak_memory
from effine.export.bench.rivals.case import Case, check_losses, full_batch, make_case, timed
from effine.export.bench.rivals.network import torch_optimizer
from effine.export.bench.timing import alternate, milliseconds, ratio, spread
from effine.export.errors import ExportError
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import set_threads


def bench_shapes(
    method: str, source: str, seqs: tuple[int, ...], *, batch: int, steps: int, warmup: int
) -> dict[str, Any]:
    """Time steps at each length on one thread, and how much a process grows by taking them all.

    Returns:
        For each length `ms` and `ratio` of effine's method (`each`) and the dynamic program
        (`one`); `growth` of a process of its own in bytes, of both.

    Raises:
        ExportError: the longest isn't above the length that the dynamic program is traced at.
        Unavailable: the dynamic program doesn't train as PyTorch does.
    """
    if max(seqs) <= TRACED:
        raise ExportError(f"--seqs: the longest must be above {TRACED}")
    torch.set_num_threads(1)
    set_threads(1)
    with TemporaryDirectory(prefix="effine-") as scratch:
        folder = Path(scratch)
        artifact = export(
            source,
            method=method,
            seq=",".join(map(str, seqs)),
            batch=batch,
            out=folder / "a.effine",
        )
        case = make_case(artifact, source, threads=1)
        content, state = dynamic_program(case)
        program = folder / "dynamic.pte"
        program.write_bytes(content)
        _check(case, DynamicStep(program, state))
        dynamic = DynamicStep(program, state)
        return {
            "method": method,
            "model": artifact.manifest.backbone.name,
            "batch": batch,
            "steps": steps,
            "lengths": [_compare(artifact, dynamic, seq, steps, warmup) for seq in seqs],
            "growth": {
                "each": in_fresh_process(_growth, _grow_each, artifact.path),
                "one": in_fresh_process(_growth, _grow_one, artifact.path, program, state),
            },
        }


def _compare(
    artifact: Artifact, dynamic: DynamicStep, seq: int, steps: int, warmup: int
) -> dict[str, Any]:
    batch = full_batch(artifact, seq)
    each = program_turns(artifact, batch, {})["step"]
    turns = {"each": each, "one": timed(partial(dynamic, batch))}
    times = alternate(turns, steps, warmup)
    return {
        "seq": seq,
        "ms": {name: spread(milliseconds(taken)) for name, taken in times.items()},
        "ratio": ratio(times["each"], times["one"]),
    }


def _check(case: Case, dynamic: DynamicStep) -> None:
    network = case.network("eager")
    optimizer = torch_optimizer(network.named_parameters(), case.artifact.manifest)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    check_losses(case, network, optimizer, [dynamic(case.batch), dynamic(case.batch)])


def _growth(grow: Callable[..., None], path: Path, *arguments: object) -> int:
    """Bytes by which this process's peak exceeds its memory after importing."""
    set_threads(1)
    artifact = Artifact.open(path)
    imported = forget_peak()
    grow(artifact, *arguments)
    return peak_memory() - imported


def _grow_each(artifact: Artifact) -> None:
    for seq in artifact.manifest.shapes.seqs:
        program_turns(artifact, full_batch(artifact, seq), {})["step"]()


def _grow_one(artifact: Artifact, program: Path, state: list[Tensor]) -> None:
    dynamic = DynamicStep(program, state)
    for seq in artifact.manifest.shapes.seqs:
        dynamic(full_batch(artifact, seq))
