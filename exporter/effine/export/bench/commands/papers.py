"""`effine bench papers`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.bench.commands.options import (
    FOLDER,
    batch_option,
    command_line,
    json_option,
    model_option,
    numbers_of,
    precision_option,
    results_option,
    steps_option,
    warmup_option,
    words_of,
)


@click.command()
@click.option(
    "--paper",
    "chosen",
    default="read,spartan,far,autofreeze,gates",
    show_default=True,
    help="Comma-separated papers.",
)
@click.option(
    "--data",
    "folder",
    type=FOLDER,
    required=True,
    help="Folder with train.jsonl and test.jsonl or dev.jsonl, for classification.",
)
@model_option
@click.option(
    "--random-bert",
    default="12x768",
    show_default=True,
    help="Layers x hidden size of a BERT with random weights, for READ.",
)
@click.option("--examples", type=click.IntRange(8), help="Train on a stratified part.")
@click.option("--max-test", type=click.IntRange(1), help="Test on a stratified part.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Comma-separated seeds.")
@click.option(
    "--epochs", type=click.IntRange(1), help="Instead of 5 for READ and each recipe's own."
)
@precision_option
@batch_option
@steps_option
@warmup_option
@results_option(Path("papers.jsonl"))
@click.option("--work", type=FOLDER, help="Keep artifacts here and use those found.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Size of the thread pools.",
)
@json_option
def papers(
    chosen: str,
    folder: Path,
    model: str,
    seeds: str,
    results: Path,
    work: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Reproduce the papers' comparisons on effine's own programs.

    Measurements that the file of results holds already are skipped. Memory needs the native
    runner; without it, this is told and the rest is measured.

    \b
    effine bench papers --paper far,autofreeze --data banking77/ --work artifacts/
    """
    from effine.export.bench.papers import figure_rows, find_papers, run_papers
    from effine.export.bench.papers.workbench import Settings
    from effine.export.bench.records import read_records
    from effine.export.bench.table import as_text

    names = find_papers(words_of(chosen))
    with TemporaryDirectory(prefix="effine-") as scratch:
        made = Settings(
            folder=folder,
            work=work or Path(scratch),
            seeds=tuple(numbers_of(seeds, 0)),
            source=model,
            **settings,
        )
        run_papers(names, made, results, command_line(), lambda line: click.echo(line, err=True))
    rows = figure_rows(read_records(results))
    click.echo(json.dumps(rows) if as_json else as_text(rows))
