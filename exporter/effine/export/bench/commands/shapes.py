"""`effine bench shapes`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from effine.export.bench.commands.options import (
    batch_option,
    json_option,
    measured,
    model_option,
    numbers_of,
    results_option,
    steps_option,
    warmup_option,
)


@click.command()
@click.option("--method", default="adapter", show_default=True, help="What trains.")
@model_option
@batch_option
@click.option("--seqs", default="16,32,64", show_default=True, help="Sequence lengths S.")
@steps_option
@warmup_option
@results_option()
@json_option
def shapes(
    method: str,
    model: str,
    batch: int,
    seqs: str,
    steps: int,
    warmup: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Compare a program for each sequence length with one that takes them all.

    \b
    effine bench shapes --seqs 16,32,64
    """
    from effine.export.bench.report.speed import shapes_rows
    from effine.export.bench.shapes import bench_shapes
    from effine.export.methods import make_method

    lengths = tuple(sorted(set(numbers_of(seqs, 8))))
    settings = {"batch": batch, "steps": steps, "warmup": warmup}
    name = make_method(method).name
    record = measured("shapes", results, partial(bench_shapes, name, model, lengths, **settings))
    if as_json:
        click.echo(json.dumps(record))
        return
    for what, each, one, ratio in shapes_rows([record]):
        click.echo(f"{what}: {each}; one program for all {one}; ratio {ratio}")
