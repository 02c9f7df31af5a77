"""FAR10 and FAR40, random choice and freeze-FFN against full tuning: time, bytes moved, score."""

from __future__ import annotations

from functools import partial
from typing import Any

from effine.export.bench.own import program_turns
from effine.export.bench.papers.figure import Figure, Findings, dims_in, points_lost, rates_in
from effine.export.bench.papers.work import Work, moved_bytes, step_macs
from effine.export.bench.papers.workbench import Arm, Measurement, Workbench
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.rivals.case import full_batch
from effine.runtime.artifact import Artifact
from effine.runtime.policies.far import FAR, PRIME

NAME, TITLE = "far", "FAR (2205.01541) against full tuning with frozen embeddings"
FULL, FAR10, FAR40, RANDOM, NO_FFN = "full", "FAR10", "FAR40", "random 10 %", "freeze-FFN"
PRIMING = "priming"
ARMS = {
    FULL: Arm("full"),
    FAR10: Arm("far", {"retention": 10.0}),
    FAR40: Arm("far", {"retention": 40.0}),
    RANDOM: Arm("far", {"retention": 10.0, "selection": "random"}),
    NO_FFN: Arm("far", {"selection": "none"}),
}
_TIMES = {
    FAR10: (0.71, "385 of 544 s on a Xavier NX, so 0.71 (C)"),
    FAR40: (0.83, "454 of 544 s on a Xavier NX, so 0.83 (C)"),
    NO_FFN: (0.57, "32.59 of 56.87 min, so 0.57 (S)"),
}
_LOST: dict[str, tuple[float | None, str]] = {
    FAR10: (1.1, "1.13 % on average (C)"),
    FAR40: (0.74, "0.74 % on average (C)"),
    RANDOM: (None, "0.1 to 0.8 more than FAR10 (C)"),
    NO_FFN: (None, "-"),
}
_REACHED, _MOVED = 0.8, 0.5


def measurements(bench: Workbench) -> list[Measurement]:
    """Steps in turn, then whole trainings."""
    return [
        bench.measurement(NAME, "step", partial(_step, bench)),
        *bench.runs(NAME, ARMS),
        *bench.memory(NAME, {name: ARMS[name] for name in (FULL, FAR10, FAR40, NO_FFN)}),
    ]


def figures(found: Findings) -> list[Figure]:
    """Time and bytes over full's, the share of the possible saving, points lost."""
    record = found.one("step")
    made: list[Figure] = []
    if record is not None:
        for arm in _TIMES:
            made += _savings(found, record, arm)
    for arm, (goal, quoted) in _LOST.items():
        made += points_lost(found, arm, arm, FULL, quoted, goal)
    return made


def plots(found: Findings) -> list[Plot]:
    """Milliseconds of a step, and those that the saving may leave."""
    record = found.one("step")
    if record is None:
        return []
    ms = record["ms"]
    measured = [(arm, spread["median"]) for arm, spread in ms.items()]
    possible = [(arm, ms[FULL]["median"] - allowed_ms(record, arm)) for arm in _TIMES]
    series = {"measured": measured, "full's less what arithmetic saves": possible}
    return [Plot("far-step", "bars", "FAR: a training step", "", "ms", series)]


def allowed_ms(record: Record, arm: str) -> float:
    """Milliseconds that an arm's step saves by multiplications and bytes moved."""
    rates = rates_in(record)
    return 1e3 * (rates.seconds(_work(record, FULL)) - rates.seconds(_work(record, arm)))


def _work(record: Record, arm: str) -> Work:
    about = record["arms"][arm]
    text = step_macs(dims_in(record), record["seq"], ffn_trained=about["ffn_trained"])
    return Work(record["setting"]["batch"] * text, about["moved"])


def _savings(found: Findings, record: Record, arm: str) -> list[Figure]:
    own, full = record["ms"][arm]["median"], record["ms"][FULL]["median"]
    work, whole = _work(record, arm), _work(record, FULL)
    allowed = allowed_ms(record, arm)
    goal, quoted = _TIMES[arm]
    ten = arm == FAR10
    bound = (
        f"A step multiplies {work.macs / whole.macs:.2f} times as often and moves "
        f"{work.moved / whole.moved:.2f} of the bytes; at this machine's rates that saves "
        f"{allowed:.1f} of {full:.1f} ms, a ratio of {1 - allowed / full:.2f}."
    )
    sides: dict[str, Any] = {"own": found.side(arm), "base": found.side(FULL)}
    return [
        Figure(
            f"{arm}: time of a step over full's", quoted, own / full, goal, ".3f", bound, **sides
        ),
        Figure(
            what=f"{arm}: share reached of what arithmetic saves",
            quoted="-",
            value=(full - own) / allowed,
            goal=_REACHED if ten else None,
            form=".0%",
            bound=bound,
            higher=True,
            **sides,
        ),
        Figure(
            what=f"{arm}: bytes that gradients and optimizer move, over full's",
            quoted="201 of 378 s of memory access, so 0.53 (C)" if ten else "-",
            value=work.moved / whole.moved,
            goal=_MOVED if ten else None,
            form=".3f",
            bound="Counted from the state's layout: attention, norms and head go on training.",
            **sides,
        ),
    ]


def _step(bench: Workbench) -> dict[str, Any]:
    """A step of each arm on a full batch at the longest length."""
    turns, arms, seq = {}, {}, 0
    for name, arm in ARMS.items():
        if name == RANDOM:
            continue
        artifact = bench.artifact(arm)
        seq = artifact.manifest.shapes.seqs[-1]
        batch = full_batch(artifact, seq)
        phases = {name: None if name == FULL else FAR}
        if name == FAR10:
            phases[PRIMING] = PRIME
        for side, phase in phases.items():
            turns[side] = program_turns(artifact, batch, {}, phase)["step"]
            moved = moved_bytes(artifact.manifest, phase)
            arms[side] = {"moved": moved, "ffn_trained": _ffn_trained(artifact, phase)}
    known = bench.machine(bench.settings.batch * seq)
    return {**known, "seq": seq, "arms": arms, "ms": bench.times(turns)}


def _ffn_trained(artifact: Artifact, phase: str | None) -> float:
    """The share of the feed-forward layers' numbers that a phase trains."""
    manifest = artifact.manifest
    _, method = manifest.train_method(manifest.shapes.seqs[-1], phase)
    parameters = {entry.name for entry in manifest.state if entry.role == "parameter"}
    sizes = {"update": 0, "read": 0}
    for spec in method.inputs:
        if spec.name in parameters and ".feed_forward." in spec.name and len(spec.shape) > 1:
            sizes[spec.role] += spec.shape[0] * spec.shape[1]
    return sizes["update"] / sum(sizes.values())
