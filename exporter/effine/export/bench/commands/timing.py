"""`effine bench step`, `epoch` and `scaling`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.bench.commands.options import (
    FILE,
    FOLDER,
    batch_option,
    json_option,
    measured,
    methods_of,
    methods_option,
    model_option,
    numbers_of,
    precision_option,
    recompute_option,
    refuse_given,
    results_option,
    seq_option,
    steps_option,
    task_option,
    threads_option,
    warmup_option,
    words_of,
)


@click.command()
@methods_option("adapter,spartan")
@click.option("--artifact", type=FOLDER, help="Measure this one instead of exporting.")
@click.option(
    "--rivals",
    default="eager",
    show_default=True,
    help="Comma-separated: eager, full, compile, ort, ort-full, executorch, executorch-xnnpack.",
)
@click.option(
    "--ort-python",
    type=FILE,
    envvar="EFFINE_ORT_PYTHON",
    help="Interpreter with onnxruntime-training-cpu, for ort and ort-full; see `make ort`.",
)
@model_option
@batch_option
@seq_option
@threads_option("1,2")
@steps_option
@warmup_option
@click.option(
    "--pooling", type=click.Choice(["cls", "mean"]), help="By default what suits the backbone."
)
@precision_option
@recompute_option
@results_option()
@json_option
def step(
    methods: str,
    artifact: Path | None,
    rivals: str,
    ort_python: Path | None,
    model: str,
    batch: int,
    seq: int,
    threads: str,
    steps: int,
    warmup: int,
    results: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Time a training step on the programs and its rivals' steps, in alternation.

    A rival that can't be measured is listed with the reason.

    \b
    effine bench step --methods adapter --threads 1
    effine bench step --rivals eager,full,compile,executorch-xnnpack
    """
    from effine.export.bench.rivals import find_rivals
    from effine.export.bench.show import print_step
    from effine.export.bench.step import bench_step, export_for_step, outside_delegates
    from effine.runtime.artifact import Artifact

    if artifact:
        reason = "settled when the artifact was exported; leave it out, or leave out --artifact"
        refuse_given(reason, "methods", "batch", "seq", *settings)
    counts, opponents = numbers_of(threads, 1), find_rivals(words_of(rivals))
    records, programs = [], {}
    with TemporaryDirectory(prefix="effine-") as folder:
        for method in [None] if artifact else methods_of(methods):
            opened = (
                Artifact.open(artifact)
                if artifact
                else export_for_step(str(method), model, Path(folder), batch, seq, **settings)
            )
            programs[opened.manifest.method_info.name] = outside_delegates(opened)
            for count in counts:
                record = measured(
                    "step",
                    results,
                    partial(
                        bench_step,
                        opened,
                        model,
                        opponents,
                        threads=count,
                        steps=steps,
                        warmup=warmup,
                        ort_python=ort_python,
                    ),
                )
                records.append(record)
                if not as_json:
                    print_step(record)
    if as_json:
        click.echo(json.dumps({"steps": records, "programs": programs}))
        return
    for name, found in programs.items():
        for method, parts in found.items():
            outside = ", ".join(f"{op} x{n}" for op, n in parts["outside"].items()) or "nothing"
            click.echo(f"{name} {method}: {parts['delegates']} delegates; outside: {outside}")


@click.command()
@methods_option("adapter,spartan")
@model_option
@task_option
@click.option("--data", type=FILE, help="CSV, TSV or JSONL; by default the sample intents.")
@click.option("--examples", type=click.IntRange(8), help="Use a stratified part of the data.")
@click.option(
    "--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of each."
)
@threads_option("1")
@precision_option
@results_option()
@json_option
def epoch(
    methods: str,
    model: str,
    task: str,
    data: Path | None,
    examples: int | None,
    epochs: int,
    threads: str,
    backbone_precision: str,
    results: Path | None,
    as_json: bool,
) -> None:
    """Time whole epochs against PyTorch that pads each batch to its longest text.

    \b
    effine bench epoch --data train.jsonl --examples 1000
    """
    from effine.export import samples
    from effine.export.bench.epoch import TrainingData, bench_epoch
    from effine.export.bench.show import print_epoch
    from effine.export.bench.subsets import draw
    from effine.export.pipeline import export
    from effine.runtime.data import load_examples

    counts = numbers_of(threads, 1)
    chosen = draw(load_examples(data or samples.TRAIN, task), examples, None, seed=0)
    training = TrainingData(data.absolute().parent.name if data else "sample intents", chosen)
    records = []
    with TemporaryDirectory(prefix="effine-") as folder:
        for method in methods_of(methods):
            artifact = export(
                model,
                method=method,
                task=task,
                data=chosen,
                backbone_precision=backbone_precision,
                out=Path(folder, f"{method}.effine"),
            )
            for count in counts:
                record = measured(
                    "epoch",
                    results,
                    partial(bench_epoch, artifact, model, training, threads=count, epochs=epochs),
                )
                records.append(record)
                if not as_json:
                    print_epoch(record)
    if as_json:
        click.echo(json.dumps(records))


@click.command()
@click.option(
    "--method", default="adapter", show_default=True, help="One with pieces in the layers."
)
@model_option
@click.option("--batches", default="1,4,8,16", show_default=True, help="Batch sizes B.")
@click.option("--seqs", default="16,32,64,128", show_default=True, help="Sequence lengths S.")
@click.option(
    "--first-layers",
    help="Values of --first-layer, measured at the largest B and S; by default all.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@steps_option
@warmup_option
@precision_option
@results_option()
@json_option
def scaling(
    method: str,
    model: str,
    batches: str,
    seqs: str,
    first_layers: str | None,
    threads: int,
    steps: int,
    warmup: int,
    backbone_precision: str,
    results: Path | None,
    as_json: bool,
) -> None:
    """Fit a step's time by a + b*B*S + c*B*S^2, and by the number of layers above the cut.

    \b
    effine bench scaling --method adapter --batches 1,8 --seqs 16,64,128
    """
    from effine.export.bench.scaling import Grid, Work, bench_scaling
    from effine.export.bench.show import print_scaling
    from effine.export.methods import make_method

    grid = Grid(
        tuple(numbers_of(batches, 1)),
        tuple(numbers_of(seqs, 8)),
        None if first_layers is None else tuple(numbers_of(first_layers, 1)),
    )
    settings = {"backbone_precision": backbone_precision}
    work = Work(make_method(method).name, model, threads, steps, warmup, settings)
    record = measured("scaling", results, partial(bench_scaling, work, grid))
    if as_json:
        click.echo(json.dumps(record))
    else:
        print_scaling(record)
