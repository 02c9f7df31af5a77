"""`effine bench step`: one training step on the programs against the same step of rivals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import KernelCall

from effine.export.bench.own import program_turns
from effine.export.bench.rivals.case import Case, Rival, Turn, Unavailable, make_case
from effine.export.bench.rivals.network import as_tensors, check_rival
from effine.export.bench.timing import alternate, milliseconds, ratio, spread
from effine.export.phases import KINDS
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines.executorch import set_threads


def bench_step(
    artifact: Artifact,
    source: str,
    rivals: Sequence[Rival],
    *,
    threads: int,
    steps: int,
    warmup: int,
    ort_python: Path | None = None,
) -> dict[str, Any]:
    """Time steps of an artifact and of its rivals, one after the other in every round.

    Args:
        source: the backbone as given at export.
        threads: size of everyone's thread pool.
        ort_python: the interpreter of an environment with onnxruntime-training-cpu.

    Returns:
        `ms` holds the spread of each side's milliseconds (`train` is the train program
        alone, its features cached), `ratios` effine's `step` and `train` over each
        rival, `unavailable` why a rival couldn't be measured.
    """
    torch.set_num_threads(threads)
    set_threads(threads)
    case = make_case(artifact, source, threads, ort_python)
    start = {name: p.detach().numpy().copy() for name, p in case.model.trainable().items()}
    with ExitStack() as stack:
        measured, unavailable = _start(rivals, case, stack)
        turns = {**program_turns(artifact, case.batch, start), **measured}
        times = alternate(turns, steps, warmup)
    manifest = artifact.manifest
    return {
        "method": manifest.method_info.name,
        "precision": manifest.backbone.precision,
        "recompute": manifest.memory.recompute,
        "pooling": manifest.backbone.pooling,
        "model": manifest.backbone.name,
        "first_layer": manifest.method_info.first_layer,
        "batch": manifest.shapes.batch,
        "seq": manifest.shapes.seqs[-1],
        "threads": threads,
        "steps": steps,
        "rivals": {r.name: {"summary": r.summary, "trains": r.trains} for r in rivals},
        "logits_difference": _difference(case),
        "ms": {name: spread(milliseconds(taken)) for name, taken in times.items()},
        "ratios": {
            name: {own: ratio(times[own], times[name]) for own in ("step", "train")}
            for name in measured
        },
        "unavailable": unavailable,
    }


def export_for_step(
    method: str, source: str, folder: Path, batch: int, seq: int, **settings: Any
) -> Artifact:
    """An artifact of one shape for the sample intents; more settings are those of `export`."""
    out = folder / f"{method}.effine"
    return export(source, method=method, seq=str(seq), batch=batch, out=out, **settings)


def outside_delegates(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """For each program method: the number of delegates, and the operators outside them."""
    found = {}
    for kind in KINDS:
        content = artifact.file(artifact.manifest.programs[kind].file).read_bytes()
        program: Any = deserialize_pte_binary(content)
        for plan in getattr(program, "program", program).execution_plan:
            calls = [step.instr_args for chain in plan.chains for step in chain.instructions]
            outside = Counter(
                plan.operators[call.op_index].name for call in calls if isinstance(call, KernelCall)
            )
            if plan.delegates or outside:
                found[plan.name] = {"delegates": len(plan.delegates), "outside": dict(outside)}
    return found


def _start(
    rivals: Sequence[Rival], case: Case, stack: ExitStack
) -> tuple[dict[str, Turn], dict[str, str]]:
    """Turns of the rivals that can be measured, and why the others can't."""
    turns, unavailable = {}, {}
    for rival in rivals:
        try:
            turns[rival.name] = stack.enter_context(rival.start(case))
        except Unavailable as reason:
            unavailable[rival.name] = str(reason)
    return turns, unavailable


def _difference(case: Case) -> float:
    """The largest difference between effine's logits and the rivals'."""
    return check_rival(case.network(), case.model, as_tensors(case.batch.tokens))
