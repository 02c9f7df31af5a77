"""`effine bench size`, `effine bench memory` and `effine bench export`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from effine.export.bench.commands.options import (
    batch_option,
    json_option,
    measured,
    methods_of,
    methods_option,
    model_option,
    precisions_of,
    results_option,
    seq_option,
)

precisions_option = click.option(
    "--precisions", default="fp32,int8", show_default=True, help="Of the frozen weights."
)


@click.command()
@methods_option("adapter,head,spartan")
@precisions_option
@model_option
@batch_option
@seq_option
@results_option()
@json_option
def size(
    methods: str,
    precisions: str,
    model: str,
    batch: int,
    seq: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Weigh artifacts by file, beside the fp32 weights and ExecuTorch's stock programs.

    \b
    effine bench size --methods adapter --precisions fp32,int8
    """
    from effine.export.bench.show import print_size
    from effine.export.bench.size import bench_size, rival_sizes
    from effine.export.bench.step import export_for_step

    records = []
    for method in methods_of(methods):
        rivals = None
        for precision in precisions_of(precisions):
            with TemporaryDirectory(prefix="effine-") as folder:
                artifact = export_for_step(
                    method, model, Path(folder), batch, seq, backbone_precision=precision
                )
                rivals = rivals or rival_sizes(artifact, model)
                records.append(measured("size", results, partial(bench_size, artifact, rivals)))
            if not as_json:
                print_size(records[-1])
    if as_json:
        click.echo(json.dumps(records))


@click.command()
@methods_option("adapter,spartan,read")
@precisions_option
@model_option
@batch_option
@click.option(
    "--seqs", default="64", show_default=True, help="Sequence lengths of the artifact, as 16,64."
)
@results_option()
@json_option
def memory(
    methods: str,
    precisions: str,
    model: str,
    batch: int,
    seqs: str,
    results: Path | None,
    as_json: bool,
) -> None:
    """Measure the native runner's peak memory beside its prediction and PyTorch's.

    \b
    effine bench memory --methods adapter --precisions int8
    """
    from effine.export.bench.memory import bench_memory
    from effine.export.bench.show import print_memory
    from effine.export.parity import native_runner
    from effine.export.pipeline import export

    runner = native_runner()
    records = []
    for method in methods_of(methods):
        for precision in precisions_of(precisions):
            with TemporaryDirectory(prefix="effine-") as folder:
                artifact = export(
                    model,
                    method=method,
                    seq=seqs,
                    batch=batch,
                    backbone_precision=precision,
                    out=Path(folder, f"{method}.effine"),
                )
                measure = partial(bench_memory, artifact, model, runner)
                records.append(measured("memory", results, measure))
            if not as_json:
                print_memory(records[-1])
    if as_json:
        click.echo(json.dumps(records))


@click.command()
@methods_option("adapter,head,spartan")
@precisions_option
@model_option
@batch_option
@seq_option
@results_option()
@json_option
def export(
    methods: str,
    precisions: str,
    model: str,
    batch: int,
    seq: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Time exports by stage, each in a fresh process, with their peak memory.

    \b
    effine bench export --methods adapter --precisions int8
    """
    from effine.export.bench.exporting import bench_export
    from effine.export.bench.show import print_export

    records = []
    for method in methods_of(methods):
        for precision in precisions_of(precisions):
            settings = {
                "method": method,
                "backbone_precision": precision,
                "batch": batch,
                "seq": str(seq),
            }
            record = measured("export", results, partial(bench_export, model, settings))
            records.append(record)
            if not as_json:
                print_export(record)
    if as_json:
        click.echo(json.dumps(records))
