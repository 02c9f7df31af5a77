"""`effine bench sdk`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.bench.commands.options import (
    FOLDER,
    batch_option,
    json_option,
    measured,
    methods_of,
    methods_option,
    model_option,
    numbers_of,
    precision_option,
    results_option,
    seq_option,
    steps_option,
    threads_option,
)


@click.command()
@methods_option("adapter,spartan,full")
@click.option("--artifact", type=FOLDER, help="Measure this one instead of exporting.")
@model_option
@batch_option
@seq_option
@threads_option("1,2")
@steps_option
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Updates not timed, in which the JVM compiles.",
)
@precision_option
@results_option()
@json_option
def sdk(
    methods: str,
    artifact: Path | None,
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
    """Time updates of the Kotlin SDK beside their programs alone, in alternation on the JVM.

    Needs a checkout of effine, Maven and a JDK.

    \b
    effine bench sdk --methods adapter --threads 1
    """
    from effine.export.bench.sdk import bench_sdk
    from effine.export.bench.show import print_sdk
    from effine.export.bench.step import export_for_step
    from effine.export.parity import jvm_runner
    from effine.runtime.artifact import Artifact

    counts, runner = numbers_of(threads, 1), jvm_runner()
    records = []
    with TemporaryDirectory(prefix="effine-") as folder:
        for method in [None] if artifact else methods_of(methods):
            opened = (
                Artifact.open(artifact)
                if artifact
                else export_for_step(str(method), model, Path(folder), batch, seq, **settings)
            )
            for count in counts:
                measure = partial(bench_sdk, opened, runner, steps=steps, warmup=warmup)
                record = measured("sdk", results, partial(measure, threads=count))
                records.append(record)
                if not as_json:
                    print_sdk(record)
    if as_json:
        click.echo(json.dumps(records))
