"""Token gates: compute against score at each rung, beside dropping random and the last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from effine.export.bench.own import predict_turn, program_turns
from effine.export.bench.papers.figure import ACCURACY, Figure, Findings, points_lost
from effine.export.bench.papers.work import block_macs, dims_of, pass_macs
from effine.export.bench.papers.workbench import MOST, Arm, Measurement, Workbench
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.rivals.case import full_batch
from effine.runtime.policies.gates import counts, falling, rungs

NAME, TITLE = "gates", "Token gates (after 2102.09727) against full tuning"
FULL, LEARNED = "full", "learned gates"
ORDERS = {"attention": "attention", "random": "random", "first": "keep-first"}
SHARES = (1.0, 0.75, 0.5, 0.35)
_QUOTED = "none readable; PoWER-BERT, not this paper: 2.0x to 4.5x at 1 % loss"
_DROPPED, _LOST, _SAVED = 0.30, 1.0, 0.25
_FULL = Arm("full", seq=MOST)


def arms(ladder: str, depth: int) -> dict[str, Arm]:
    """Full tuning, each rung with tokens dropped in each order, and learned gates."""
    whole, *dropping = rungs(ladder, depth)
    return {
        FULL: _FULL,
        **{
            f"{rung} {name}": _arm(ladder, order, rung)
            for order, name in ORDERS.items()
            for rung in [*([whole] if order == "attention" else []), *dropping]
        },
        LEARNED: Arm("gates", {"keep": ladder}, seq=MOST),
    }


def _arm(ladder: str, order: str, rung: str | None) -> Arm:
    options = {"learning": 0.0, "keep": ladder, "order": order}
    return Arm("gates", options, seq=MOST, phase=rung)


def lean_share(lengths: Sequence[int], seq: int, depth: int) -> float:
    """The mean share of a rung, in hundredths, that drops 30 % of the real tokens and little more.

    Args:
        lengths: tokens of each text to train on.
    """
    dropping = (
        share
        for share in (hundredths / 100 for hundredths in range(99, 0, -1))
        if real_dropped(lengths, counts(falling(share, depth), seq), seq) >= _DROPPED
    )
    return next(dropping, SHARES[-1])


def measurements(bench: Workbench) -> list[Measurement]:
    """What rungs compute and how long they take, then whole trainings."""
    depth = dims_of(bench.settings.source).depth
    lean = lean_share(bench.lengths, bench.covering, depth)
    ladder = ",".join(map(str, sorted({*SHARES, lean}, reverse=True)))
    (rung,) = rungs(str(lean), depth)
    alone = _arm(str(lean), "attention", None)
    return [
        bench.measurement(NAME, "rungs", partial(_rungs, bench, ladder)),
        *bench.runs(NAME, arms(ladder, depth)),
        *bench.memory(NAME, {FULL: _FULL, f"{rung} {ORDERS['attention']}": alone}),
    ]


def figures(found: Findings) -> list[Figure]:
    """Of the rung that drops least of those that drop 30 % of the real tokens."""
    record = found.one("rungs")
    rung = None if record is None else enough(record)
    if record is None or rung is None:
        return []
    about, ms = record["rungs"][rung], record["ms"]
    share = about["macs"] / record["full_macs"]
    dropped = f"{rung}, {about['real_dropped']:.0%} of the real tokens dropped"
    sides: dict[str, Any] = {
        "own": found.side(f"{rung} {ORDERS['attention']}"),
        "base": found.side(FULL),
    }
    made = [
        Figure(
            what=f"{dropped}: time of a {what} saved",
            quoted=_QUOTED,
            value=1 - ms[f"{rung} {part}"]["median"] / ms[f"{FULL} {part}"]["median"],
            goal=_SAVED,
            form=".1%",
            bound=f"By multiplications, those of ranking left out, {1 - share:.1%} is saved at "
            "most; gradients and optimizer move the same bytes.",
            higher=True,
            **sides,
        )
        for part, what in (("step", "training step"), ("predict", "prediction"))
    ]
    for order, name in ORDERS.items():
        quoted, goal = (_QUOTED, _LOST) if order == "attention" else ("-", None)
        what, arm = f"{dropped}, {name}", f"{rung} {name}"
        made += points_lost(found, what, arm, FULL, quoted, goal)
    return made


def enough(record: Record) -> str | None:
    """The rung that drops least of those that drop at least 30 % of the real tokens."""
    dropped = {rung: about["real_dropped"] for rung, about in record["rungs"].items()}
    return min(
        (r for r in dropped if dropped[r] >= _DROPPED), key=dropped.__getitem__, default=None
    )


def notes(found: Findings) -> list[str]:
    """Each rung's compute and scores, and what was learned."""
    record = found.one("rungs")
    if record is None:
        return []
    lines = [
        f"- Programs take {record['seq']} tokens, which holds {record['covered']:.1%} of the "
        "texts; full tuning trains with the same."
    ]
    for rung, about in record["rungs"].items():
        scores = [
            f"{name} {100 * score:.2f}"
            for name in ORDERS.values()
            if (score := found.side(f"{rung} {name}").score) is not None
        ]
        lines.append(
            f"- {rung}: {about['macs'] / record['full_macs']:.1%} of the multiplications, "
            f"{about['real_dropped']:.1%} of the real tokens dropped, layers keep "
            f"{', '.join(map(str, about['counts']))}; accuracy {', '.join(scores) or 'not run'}"
        )
    for run in found.part("run", LEARNED):
        told = "; ".join(f"{d['reason']}: {d['phase']}" for d in run["decisions"])
        reached = f"accuracy {100 * run['scores'][ACCURACY]:.2f}"
        lines.append(f"- {LEARNED}, seed {run['setting']['seed']}: {told or 'none'}; {reached}")
    return lines


def plots(found: Findings) -> list[Plot]:
    """Errors over the share of full's multiplications."""
    record = found.one("rungs")
    if record is None:
        return []
    series = {}
    for name in ORDERS.values():
        points = [
            (about["macs"] / record["full_macs"], 100 * (1 - score))
            for rung, about in record["rungs"].items()
            if (score := found.side(f"{rung} {name}").score) is not None
        ]
        if points:
            series[name] = points
    if not series:
        return []
    title = f"Token gates on {found.setting['data']}: errors over compute"
    return [Plot("gates-rungs", "lines", title, "share of full's MACs", "errors, %", series)]


def real_dropped(lengths: Sequence[int], kept: Sequence[int], seq: int) -> float:
    """The share of real tokens that layers don't hand on, mean over layers and texts.

    Args:
        lengths: tokens of each text; padding is dropped first.
        kept: tokens that each layer keeps of `seq`.
    """
    real = [min(length, seq) for length in lengths]
    left = sum(min(length, count) for length in real for count in kept)
    return 1 - left / (len(kept) * sum(real))


def _rungs(bench: Workbench, ladder: str) -> dict[str, Any]:
    """Counts, multiplications, and steps and predictions on a full batch in turn."""
    full, gated = bench.artifact(_FULL), bench.artifact(_arm(ladder, "attention", None))
    seq = full.manifest.shapes.seqs[-1]
    dims, batch = dims_of(bench.settings.source), full_batch(full, seq)
    turns = {
        f"{FULL} step": program_turns(full, batch, {})["step"],
        f"{FULL} predict": predict_turn(full, batch),
    }
    about = {}
    for rung, shares in rungs(ladder, dims.depth).items():
        turns[f"{rung} step"] = program_turns(gated, batch, {}, rung)["step"]
        turns[f"{rung} predict"] = predict_turn(gated, batch, rung)
        kept = counts(shares, seq)
        about[rung] = {
            "counts": kept,
            "macs": pass_macs(dims, kept, seq),
            "real_dropped": real_dropped(bench.lengths, kept, seq),
        }
    return {
        "dims": asdict(dims),
        "seq": seq,
        "covered": sum(length <= seq for length in bench.lengths) / len(bench.lengths),
        "full_macs": dims.depth * block_macs(dims, seq),
        "rungs": about,
        "steps": bench.settings.steps,
        "ms": bench.times(turns),
    }
