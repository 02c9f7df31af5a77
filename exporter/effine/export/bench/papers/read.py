"""READ against full tuning: time with the pass that fills the cache, memory, growth with depth."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from effine.export.bench.epoch import EagerEpochs, alternate_epochs
from effine.export.bench.memory import bench_memory
from effine.export.bench.own import program_turns
from effine.export.bench.papers.figure import (
    Figure,
    Findings,
    Side,
    dims_in,
    phase_in,
    rates_in,
    side_of,
)
from effine.export.bench.papers.work import (
    Dims,
    Work,
    block_macs,
    dims_of,
    measure_rates,
    step_macs,
)
from effine.export.bench.papers.workbench import (
    Arm,
    Measurement,
    Workbench,
    about,
    name_of_bert,
    runner_here,
)
from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.rivals.case import make_case
from effine.export.bench.rivals.pytorch import FULL
from effine.runtime.artifact import Artifact
from effine.runtime.dataset import load_dataset
from effine.runtime.trainer import Trainer

NAME, TITLE = "read", "READ (2305.15348) against full tuning in PyTorch eager"
ALL, FIRST = "all tokens", "first token"
ARMS = {
    ALL: Arm("read", {"tokens": "all"}),
    FIRST: Arm("read", {"tokens": "first"}, pooling="cls"),
}
EPOCHS = 5
_ENERGY, _MEMORY = 0.16, 0.44
_GOALS = {ALL: 0.26, FIRST: 0.08}
_MOVED_PER_PARAMETER = 32


def measurements(bench: Workbench) -> list[Measurement]:
    """Epochs and memory on the backbone and on random weights, then steps by depth."""
    depth, hidden = bench.settings.random_dims
    epochs = bench.settings.epochs or EPOCHS
    found = []
    changed: dict[str, Any]
    for random in (False, True):
        seeds = bench.settings.seeds[:1] if random else bench.settings.seeds
        own = {"model": name_of_bert(depth, hidden)} if random else {}
        source = partial(bench.random_bert, depth, hidden) if random else None
        for name, arm in ARMS.items():
            for seed in seeds:
                measure = partial(_epochs, bench, arm, source, seed, epochs)
                changed = {"arm": name, "seed": seed, "epochs": epochs, **own}
                found.append(bench.measurement(NAME, "epochs", measure, **changed))
            peak = partial(_peak, bench, arm, source)
            changed = {"arm": name, "epochs": epochs, **own}
            found.append(bench.measurement(NAME, "memory", peak, **changed))
    changed = {"model": name_of_bert(depth, hidden), "epochs": epochs}
    found.append(bench.measurement(NAME, "depth", partial(_depth, bench, depth, hidden), **changed))
    return found


def figures(found: Findings) -> list[Figure]:
    """Ratios to full tuning of time and memory, and what a further layer costs."""
    return [*_times(found), *_peaks(found), *_growth(found)]


def plots(found: Findings) -> list[Plot]:
    """A step's time by depth."""
    record = found.one("depth")
    if record is None:
        return []
    usual = [point for point in record["points"] if not point["widened"]]
    names = {"train_ms": "READ, features cached", "full_ms": "full tuning, PyTorch eager"}
    series = {what: [(p["depth"], p[key]) for p in usual] for key, what in names.items()}
    title = f"READ: a step by depth, hidden size {record['hidden']}"
    return [Plot("read-depth", "lines", title, "layers", "ms", series)]


def side_macs(dims: Dims, width: int, tokens: float) -> float:
    """Of a step of READ on a text: forward, and backward without gradients of the states."""
    into, recurrent = 3 * dims.hidden * width, 3 * width**2
    return tokens * (
        2 * dims.depth * into + 3 * (dims.depth - 1) * recurrent + 3 * width * dims.hidden
    )


def least_ratio(record: Record) -> float:
    """The time ratio to full tuning if both sides did nothing but what they have to."""
    dims, rates, epochs = dims_in(record), rates_in(record), len(record["epoch_s"])
    tokens, batch = record["tokens"], record["setting"]["batch"]
    seen = 1 if record["setting"]["arm"] == FIRST else tokens
    side = Work(side_macs(dims, record["width"], seen), phase_in(record)["moved"] / batch)
    filling = Work(dims.depth * block_macs(dims, tokens))
    moved = _MOVED_PER_PARAMETER * record["eager"]["parameters"] / batch
    full = Work(step_macs(dims, tokens), moved)
    return rates.seconds(filling + side * epochs) / rates.seconds(full * epochs)


def _times(found: Findings) -> list[Figure]:
    made = []
    for arm in ARMS:
        runs = found.part("epochs", arm)
        if not runs:
            continue
        ratios = [sum(run["epoch_s"]) / sum(run["eager"]["epoch_s"]) for run in runs]
        least, last = least_ratio(runs[-1]), runs[-1]
        padded = last["padded"] / last["tokens"]
        made.append(
            Figure(
                what=f"{arm}: time of {len(last['epoch_s'])} epochs, the cache filled, over full",
                quoted="energy -84 %, so 0.16 (C, abstract)",
                value=statistics.mean(ratios),
                goal=_ENERGY if last["random_weights"] else _GOALS[arm],
                form=".3f",
                bound=f"By multiplications and bytes moved, at this machine's rates in fp32, "
                f"{least:.3f} is the least. Padding adds {padded - 1:.0%} to effine's tokens; "
                f"{last['epoch_s'][0] / sum(last['epoch_s']):.0%} of its time is the first epoch.",
                own=side_of(runs, found.one("memory", arm)),
                base=_eager_side(runs, found.one("memory", arm)),
            )
        )
    return made


def _peaks(found: Findings) -> list[Figure]:
    made = []
    for arm in ARMS:
        record = found.one("memory", arm)
        if record is not None:
            full, weights = record["rivals"]["full"], record["weights"]
            made.append(
                Figure(
                    what=f"{arm}: peak of the native runner over PyTorch's growth",
                    quoted="training memory -56 %, so 0.44 (C, abstract)",
                    value=record["peak"] / full,
                    goal=_MEMORY,
                    form=".3f",
                    bound=f"The frozen weights that the runner packs are {weights / full:.3f}.",
                    own=side_of(found.part("epochs", arm), record),
                    base=_eager_side(found.part("epochs", arm), record),
                )
            )
    return made


def _growth(found: Findings) -> list[Figure]:
    record = found.one("depth")
    if record is None:
        return []
    *usual, widened = record["points"]
    figures = [
        Figure(
            what="a cached step over a backbone with twice the FFN, over the usual one's",
            quoted="independent of the backbone (C, code)",
            value=widened["train_ms"] / usual[-1]["train_ms"],
            goal=None,
            form=".3f",
            bound="Its program is the same, by multiplications the ratio is 1.",
        )
    ]
    depths = [point["depth"] for point in usual]
    if len(set(depths)) > 1:
        slopes = {
            key: float(np.polyfit(depths, [p[key] for p in usual], 1)[0])
            for key in ("train_ms", "full_ms", "macs", "full_macs")
        }
        figures.append(
            Figure(
                what="what a further layer adds to a cached step, over what it adds to full's",
                quoted="size doesn't grow with depth (C)",
                value=slopes["train_ms"] / slopes["full_ms"],
                goal=None,
                form=".3f",
                bound=f"By multiplications it is {slopes['macs'] / slopes['full_macs']:.3f}.",
            )
        )
    return figures


def _eager_side(runs: list[Record], memory: Record | None) -> Side:
    grown = None if memory is None else {"peak": memory["rivals"]["full"]}
    return side_of([run["eager"] for run in runs], grown)


def _epochs(
    bench: Workbench, arm: Arm, make: Callable[[], str] | None, seed: int, epochs: int
) -> dict[str, Any]:
    """Epochs of the Trainer and of full tuning, in turn."""
    source = make() if make else bench.settings.source
    artifact = bench.artifact(arm, source)
    train = bench.drawn(seed)
    rival = EagerEpochs(artifact, source, train, epochs, rival="full", seed=seed)
    trainer = Trainer(artifact)
    own, eager = alternate_epochs(trainer, rival, train, epochs, seed)
    data = load_dataset(artifact, train, artifact.manifest.task.labels)
    tokens = statistics.mean(len(sample.ids) for sample in data.tokens)
    dims = dims_of(source)
    rates = measure_rates(dims, round(bench.settings.batch * tokens))
    return {
        **about(artifact),
        "random_weights": make is not None,
        "trained": len(train),
        "tokens": tokens,
        "padded": float(data.seqs.mean()),
        "width": artifact.manifest.method_info.options["width"],
        "dims": asdict(dims),
        "rates": asdict(rates),
        "epoch_s": own,
        "scores": trainer.evaluate(bench.tested),
        "eager": {
            "epoch_s": eager,
            "scores": rival.evaluate(bench.tested),
            "parameters": rival.parameters,
        },
    }


def _peak(bench: Workbench, arm: Arm, make: Callable[[], str] | None) -> dict[str, Any]:
    source = make() if make else bench.settings.source
    runner = runner_here()
    artifact = bench.artifact(arm, source)
    found = bench_memory(artifact, source, runner, rivals=("full",))
    return {**found, "weights": artifact.manifest.memory.weights}


def _depth(bench: Workbench, depth: int, hidden: int) -> dict[str, Any]:
    """Steps over backbones of several depths, and over one whose FFN is twice as wide."""
    depths = sorted({max(1, depth // 4), max(1, depth // 2), depth})
    points = [_point(bench, each, hidden, 4) for each in depths]
    points.append(_point(bench, depth, hidden, 8))
    return {"hidden": hidden, "steps": bench.settings.steps, "points": points}


def _point(bench: Workbench, depth: int, hidden: int, widening: int) -> dict[str, Any]:
    source = bench.random_bert(depth, hidden, widening)
    artifact = bench.artifact(ARMS[ALL], source)
    case = make_case(artifact, source, bench.settings.threads)
    with ExitStack() as stack:
        full = stack.enter_context(FULL.start(case))
        times = bench.times({**program_turns(artifact, case.batch, {}), "full": full})
    dims, tokens = dims_of(source), artifact.manifest.shapes.seqs[-1]
    width = artifact.manifest.method_info.options["width"]
    return {
        "depth": depth,
        "widened": widening > 4,
        **{f"{name}_ms": spread["median"] for name, spread in times.items()},
        "macs": side_macs(dims, width, tokens),
        "full_macs": step_macs(dims, tokens),
        "features": _feature_bytes(artifact),
    }


def _feature_bytes(artifact: Artifact) -> int:
    """Of a batch at the longest sequence."""
    shapes = artifact.manifest.shapes
    _, method = artifact.manifest.backbone_method(shapes.batch, shapes.seqs[-1])
    return sum(4 * int(np.prod(spec.shape)) for spec in method.outputs)
