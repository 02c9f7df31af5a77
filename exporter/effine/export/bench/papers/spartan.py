"""SPARTAN against adapters: throughput of predictions, training and score with few examples."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from effine.export.bench.own import predict_turn
from effine.export.bench.papers.figure import (
    Figure,
    Findings,
    dims_in,
    phase_in,
    points_lost,
    rates_in,
)
from effine.export.bench.papers.work import Dims, Work, block_macs, crossed_macs
from effine.export.bench.papers.workbench import Arm, Measurement, Workbench
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.rivals.case import full_batch, make_case, timed

NAME, TITLE = "spartan", "SPARTAN (2211.16634) against adapters"
SPARTAN, HOULSBY, EAGER = "SPARTAN", "adapter, two a block", ", eager"
ADAPTERS = {
    "adapter": Arm("adapter"),
    HOULSBY: Arm("adapter", {"placement": "houlsby"}),
}
ARMS = {SPARTAN: Arm("spartan"), **ADAPTERS}
FEW = 200
_FASTER, _SAVED, _LOST = 0.90, 0.34, 0.9


def measurements(bench: Workbench) -> list[Measurement]:
    """Predictions in turn, then training with few examples."""
    few = min(FEW, bench.settings.examples or FEW)
    return [
        bench.measurement(NAME, "predict", partial(_predict, bench), examples=few),
        *bench.runs(NAME, ARMS, examples=few),
        *bench.memory(NAME, ARMS, examples=few),
    ]


def figures(found: Findings) -> list[Figure]:
    """Throughput gained, training time saved, points lost."""
    return [*_throughput(found), *_few_shot(found)]


def plots(found: Findings) -> list[Plot]:
    """Texts a second."""
    record = found.one("predict")
    if record is None:
        return []
    rows = record["setting"]["batch"]
    bars = [(name, 1e3 * rows / ms["median"]) for name, ms in record["ms"].items()]
    title = "SPARTAN: predicted texts a second"
    return [Plot("spartan-predict", "bars", title, "", "texts a second", {"predict": bars})]


def piece_macs(record: Record, dims: Dims, arm: str) -> float:
    """Of the pieces of one block on one token, forward."""
    options = record["pieces"][arm]
    if arm == SPARTAN:
        return dims.hidden * options["parents"] * (1 + 2 * options["children"])
    return (2 if arm == HOULSBY else 1) * 2 * dims.hidden * options["width"]


def _throughput(found: Findings) -> list[Figure]:
    record = found.one("predict")
    if record is None:
        return []
    dims, tokens, made = dims_in(record), record["seq"], []
    block = block_macs(dims, tokens) / tokens
    own = piece_macs(record, dims, SPARTAN)
    for name, arm in [(a, a) for a in ADAPTERS] + [(f"adapter{EAGER}", "adapter")]:
        eager = EAGER if name.endswith(EAGER) else ""
        theirs = piece_macs(record, dims, arm)
        ms = record["ms"]
        made.append(
            Figure(
                what=f"predictions a second, more than {name}",
                quoted="over +90 % on a Raspberry Pi 4 (C, abstract)",
                value=ms[name]["median"] / ms[SPARTAN + eager]["median"] - 1,
                goal=_FASTER,
                form="+.1%",
                bound=f"A block multiplies {block:,.0f} times a token, the memory {own:,.0f} and "
                f"what it replaces {theirs:,.0f}: {(block + theirs) / (block + own) - 1:+.1%} "
                "by multiplications.",
                higher=True,
                own=found.side(SPARTAN),
                base=found.side(arm),
            )
        )
    return made


def _few_shot(found: Findings) -> list[Figure]:
    record = found.one("predict")
    made: list[Figure] = []
    for arm in ADAPTERS:
        faster = found.speedup(SPARTAN, arm)
        if record is None or faster is None:
            continue
        own, theirs = (_step_seconds(found, record, name) for name in (SPARTAN, arm))
        made += [
            Figure(
                what=f"training with few examples, time saved against {arm}",
                quoted="34 % (C, abstract)",
                value=1 - 1 / faster,
                goal=_SAVED,
                form="+.1%",
                bound=f"By multiplications and bytes moved, steps save {1 - own / theirs:+.1%}: "
                "gradients cross every block above the first memory as they do with adapters.",
                higher=True,
                own=found.side(SPARTAN),
                base=found.side(arm),
            ),
            *points_lost(found, "few examples", SPARTAN, arm, "within 0.9 (C, abstract)", _LOST),
        ]
    return made


def _step_seconds(found: Findings, record: Record, arm: str) -> float:
    """A cached step on a text by multiplications and bytes, at the machine's rates."""
    dims, tokens = dims_in(record), record["seq"]
    phase = phase_in(found.part("run", arm)[0])
    pieces = 3 * tokens * dims.depth * piece_macs(record, dims, arm)
    crossed = crossed_macs(dims, tokens, dims.depth - phase["below"])
    moved = phase["moved"] / record["setting"]["batch"]
    return rates_in(record).seconds(Work(pieces + crossed, moved))


def _predict(bench: Workbench) -> dict[str, Any]:
    """Predictions of a full batch at the longest length, by the programs and in eager."""
    turns, pieces, seq = {}, {}, 0
    for name, arm in ARMS.items():
        artifact = bench.artifact(arm)
        seq = artifact.manifest.shapes.seqs[-1]
        batch = full_batch(artifact, seq)
        turns[name] = predict_turn(artifact, batch)
        pieces[name] = dict(artifact.manifest.method_info.options)
        if name != HOULSBY:
            network = make_case(artifact, bench.settings.source, bench.settings.threads).network()
            tokens, _ = batch.tensors()
            turns[name + EAGER] = timed(torch.no_grad()(partial(network, tokens)))
    known = bench.machine(bench.settings.batch * seq)
    return {**known, "seq": seq, "pieces": pieces, "ms": bench.times(turns)}
