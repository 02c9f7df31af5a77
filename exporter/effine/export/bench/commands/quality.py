"""`effine bench quality`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.bench.commands.options import (
    FOLDER,
    command_line,
    json_option,
    methods_of,
    methods_option,
    model_option,
    numbers_of,
    precision_option,
    results_option,
    words_of,
)
from effine.export.errors import ExportError


@click.command()
@click.option(
    "--data",
    "folders",
    type=FOLDER,
    multiple=True,
    required=True,
    help="Folder with train.jsonl and test.jsonl or dev.jsonl, or with one .json in SQuAD's "
    "format, which is split by article; may be repeated.",
)
@methods_option("head,adapter,lora,spartan,read")
@model_option
@click.option("--task", default="classification", show_default=True, help="What is learned.")
@click.option("--train-size", type=click.IntRange(2), help="Train on a stratified part.")
@click.option("--per-class", type=click.IntRange(1), help="Train on so many of each label.")
@click.option("--max-test", type=click.IntRange(1), help="Use only the first test examples.")
@click.option("--metric", help="Such as macro_f1; by default the task's main one.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Comma-separated seeds.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of each method's own.")
@results_option(Path("quality.jsonl"))
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

    Runs that the file of results holds already are skipped.

    \b
    effine bench quality --data snips/ --train-size 200
    effine bench quality --data snips/ --train-size 200 --grid
    """
    from effine.export.bench.quality import Grid, Study, run_grid, run_study
    from effine.export.bench.records import read_records
    from effine.export.bench.table import as_text, grid_rows, quality_rows

    chosen = methods_of(methods) if grid else dict.fromkeys(["head", *methods_of(methods)])
    with TemporaryDirectory(prefix="effine-") as scratch:
        study = Study(
            folders=folders,
            methods=tuple(chosen),
            seeds=tuple(numbers_of(seeds, 0)),
            work=work or Path(scratch),
            source=model,
            **settings,
        )
        if grid:
            points = Grid(
                _rates(piece_rates), _rates(head_rates), tuple(numbers_of(grid_epochs, 1))
            )
            run_grid(study, points, results, command_line(), _notice)
        else:
            run_study(study, results, command_line(), _notice)
    rows = (grid_rows if grid else quality_rows)(read_records(results))
    click.echo(json.dumps(rows) if as_json else as_text(rows))


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words_of(text))
    except ValueError as error:
        raise ExportError(f"'{text}': expected numbers separated by commas") from error


def _notice(line: str) -> None:
    click.echo(line, err=True)
