"""`effine bench`: step, epoch and quality."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.errors import ExportError

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
model_option = click.option(
    "--model", default="minilm", show_default=True, help="Hub id, directory or 'minilm'."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
task_option = click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="What is learned.",
)

precision_option = click.option(
    "--backbone-precision",
    type=click.Choice(["fp32", "int8", "int4"]),
    default="fp32",
    show_default=True,
    help="Of the programs' frozen weights; the rival stays fp32.",
)


def methods_option(default: str) -> Callable[[Any], Any]:
    """Comma-separated methods."""
    return click.option(
        "--methods", default=default, show_default=True, help="Comma-separated methods."
    )


def threads_option(default: str) -> Callable[[Any], Any]:
    """Comma-separated sizes of the thread pools."""
    return click.option(
        "--threads", default=default, show_default=True, help="Comma-separated thread counts."
    )


@click.group()
def bench() -> None:
    """Compare with PyTorch eager: speed of a step or an epoch, and what training reaches.

    \b
    effine bench step
    effine bench epoch --data train.jsonl
    effine bench quality --data snips/ --train-size 200
    """


@bench.command()
@methods_option("adapter,spartan")
@click.option("--artifact", type=FOLDER, help="Measure this one instead of exporting.")
@model_option
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Batch size.")
@click.option("--seq", type=click.IntRange(8), default=64, show_default=True, help="Tokens a text.")
@threads_option("1,2")
@click.option(
    "--steps", type=click.IntRange(1), default=30, show_default=True, help="Steps timed of each."
)
@click.option(
    "--warmup", type=click.IntRange(0), default=3, show_default=True, help="Steps not timed."
)
@click.option(
    "--pooling", type=click.Choice(["cls", "mean"]), help="By default what suits the backbone."
)
@precision_option
@json_option
def step(
    methods: str,
    artifact: Path | None,
    model: str,
    batch: int,
    seq: int,
    threads: str,
    steps: int,
    warmup: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Time a training step on the programs and in PyTorch eager (sdpa), alternating.

    \b
    effine bench step --methods adapter --threads 1
    """
    from effine.export.bench.step import bench_step, export_for_step, outside_delegates
    from effine.export.bench.table import print_step
    from effine.runtime.artifact import Artifact

    counts = _numbers(threads, 1)
    results, programs = [], {}
    with TemporaryDirectory(prefix="effine-") as folder:
        for method in [None] if artifact else _methods(methods):
            opened = (
                Artifact.open(artifact)
                if artifact
                else export_for_step(str(method), model, Path(folder), batch, seq, **settings)
            )
            name = opened.manifest.method_info.name
            programs[name] = outside_delegates(opened)
            results += bench_step(opened, model, threads=counts, steps=steps, warmup=warmup)
    if as_json:
        click.echo(json.dumps({"steps": results, "programs": programs}))
        return
    for result in results:
        print_step(result)
    for name, found in programs.items():
        for method, parts in found.items():
            outside = ", ".join(f"{op} x{n}" for op, n in parts["outside"].items()) or "nothing"
            click.echo(f"{name} {method}: {parts['delegates']} delegates; outside: {outside}")


@bench.command()
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
@json_option
def epoch(
    methods: str,
    model: str,
    task: str,
    data: Path | None,
    examples: int | None,
    epochs: int,
    threads: str,
    as_json: bool,
    backbone_precision: str,
) -> None:
    """Time whole epochs against PyTorch that pads each batch to its longest text.

    \b
    effine bench epoch --data train.jsonl --examples 1000
    """
    from effine.export import samples
    from effine.export.bench.epoch import bench_epoch
    from effine.export.bench.subsets import draw
    from effine.export.bench.table import print_epoch
    from effine.export.pipeline import export
    from effine.runtime.data import load_examples

    counts = _numbers(threads, 1)
    chosen = draw(load_examples(data or samples.TRAIN, task), examples, None, seed=0)
    results = []
    with TemporaryDirectory(prefix="effine-") as folder:
        for method in _methods(methods):
            out = Path(folder, f"{method}.effine")
            artifact = export(
                model,
                method=method,
                task=task,
                data=chosen,
                backbone_precision=backbone_precision,
                out=out,
            )
            results += bench_epoch(artifact, model, chosen, threads=counts, epochs=epochs)
    if as_json:
        click.echo(json.dumps(results))
        return
    for result in results:
        print_epoch(result)


@bench.command()
@click.option(
    "--data",
    "folders",
    type=FOLDER,
    multiple=True,
    required=True,
    help="Folder with train.jsonl and test.jsonl or dev.jsonl; may be repeated.",
)
@methods_option("head,adapter,lora,spartan,read")
@model_option
@task_option
@click.option("--train-size", type=click.IntRange(2), help="Train on a stratified part.")
@click.option("--per-class", type=click.IntRange(1), help="Train on so many of each label.")
@click.option("--max-test", type=click.IntRange(1), help="Use only the first test examples.")
@click.option("--metric", help="Such as macro_f1; by default the task's main one.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Comma-separated seeds.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of each method's own.")
@click.option(
    "--results",
    type=FILE,
    default=Path("quality.jsonl"),
    show_default=True,
    help="Where results are appended; finished runs are skipped.",
)
@precision_option
@click.option("--work", type=FOLDER, help="Keep artifacts here and use those found.")
@click.option("--threads", type=click.IntRange(1), help="Size of the thread pools.")
@click.option("--grid", is_flag=True, help="Try settings on a held-out fifth of train instead.")
@click.option("--piece-rates", default="5e-4,1e-3,2e-3", show_default=True, help="For --grid.")
@click.option("--head-rates", default="1e-3,3e-3,1e-2", show_default=True, help="For --grid.")
@click.option("--grid-epochs", default="5,10,20", show_default=True, help="For --grid.")
@json_option
def quality(
    folders: tuple[Path, ...],
    methods: str,
    model: str,
    seeds: str,
    results: Path,
    work: Path | None,
    grid: bool,
    piece_rates: str,
    head_rates: str,
    grid_epochs: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare the scores of training on the programs and in PyTorch, with the frozen head.

    \b
    effine bench quality --data snips/ --train-size 200
    effine bench quality --data snips/ --train-size 200 --grid
    """
    from effine.export.bench.quality import Grid, Study, read_results, run_grid, run_study
    from effine.export.bench.table import as_text, grid_rows, quality_rows

    chosen = _methods(methods) if grid else dict.fromkeys(["head", *_methods(methods)])
    with TemporaryDirectory(prefix="effine-") as scratch:
        study = Study(
            folders=folders,
            methods=tuple(chosen),
            seeds=tuple(_numbers(seeds, 0)),
            work=work or Path(scratch),
            source=model,
            **settings,
        )
        if grid:
            points = Grid(_rates(piece_rates), _rates(head_rates), tuple(_numbers(grid_epochs, 1)))
            run_grid(study, points, results, _notice)
        else:
            run_study(study, results, _notice)
    rows = (grid_rows if grid else quality_rows)(read_results(results))
    click.echo(json.dumps(rows) if as_json else as_text(rows))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _methods(text: str) -> list[str]:
    from effine.export.methods import make_method

    return [make_method(word).name for word in dict.fromkeys(_words(text))]


def _numbers(text: str, least: int) -> list[int]:
    words = _words(text)
    if not words or not all(word.isdecimal() and int(word) >= least for word in words):
        raise ExportError(f"'{text}': expected whole numbers from {least}, separated by commas")
    return [int(word) for word in words]


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError as error:
        raise ExportError(f"'{text}': expected numbers separated by commas") from error


def _notice(line: str) -> None:
    click.echo(line, err=True)
