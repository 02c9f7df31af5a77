"""`effine bench size`, `memory`, `tasks` and `export`: each makes artifacts of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from effine.export.bench.commands.options import (
    batch_option,
    json_option,
    measured,
    methods_of,
    methods_option,
    model_option,
    precision_option,
    precisions_of,
    recompute_option,
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

    rivals: dict[str, Any] = {}

    def weigh(method: str, precision: str) -> dict[str, Any]:
        with TemporaryDirectory(prefix="effine-") as folder:
            artifact = export_for_step(
                method, model, Path(folder), batch, seq, backbone_precision=precision
            )
            if method not in rivals:
                rivals[method] = rival_sizes(artifact, model)
            return measured("size", results, partial(bench_size, artifact, rivals[method]))

    _for_each(methods, precisions, weigh, print_size, as_json)


@click.command()
@methods_option("adapter,spartan,read")
@precisions_option
@model_option
@batch_option
@click.option(
    "--seqs", default="64", show_default=True, help="Sequence lengths of the artifact, as 16,64."
)
@recompute_option
@results_option()
@json_option
def memory(
    methods: str,
    precisions: str,
    model: str,
    batch: int,
    seqs: str,
    recompute: bool,
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

    def peak(method: str, precision: str) -> dict[str, Any]:
        with TemporaryDirectory(prefix="effine-") as folder:
            artifact = export(
                model,
                method=method,
                seq=seqs,
                batch=batch,
                backbone_precision=precision,
                recompute=recompute,
                out=Path(folder, f"{method}.effine"),
            )
            return measured("memory", results, partial(bench_memory, artifact, model, runner))

    _for_each(methods, precisions, peak, print_memory, as_json)


@click.command()
@methods_option("head,read,spartan")
@precision_option
@model_option
@seq_option
@results_option()
@json_option
def tasks(
    methods: str,
    backbone_precision: str,
    model: str,
    seq: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Measure what each further task over one loaded backbone takes in the native runner.

    \b
    effine bench tasks --methods head,read,spartan
    """
    from effine.export.bench.show import print_tasks
    from effine.export.bench.tasks import bench_tasks
    from effine.export.parity import native_runner
    from effine.export.pipeline import export

    runner = native_runner()
    with TemporaryDirectory(prefix="effine-") as folder:
        artifacts = [
            export(
                model,
                method=method,
                seq=str(seq),
                backbone_precision=backbone_precision,
                out=Path(folder, f"{method}.effine"),
            )
            for method in methods_of(methods)
        ]
        record = measured("tasks", results, partial(bench_tasks, artifacts, runner))
    if as_json:
        click.echo(json.dumps(record))
    else:
        print_tasks(record)


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

    def time(method: str, precision: str) -> dict[str, Any]:
        settings = {
            "method": method,
            "backbone_precision": precision,
            "batch": batch,
            "seq": str(seq),
        }
        return measured("export", results, partial(bench_export, model, settings))

    _for_each(methods, precisions, time, print_export, as_json)


def _for_each(
    methods: str,
    precisions: str,
    measure: Callable[[str, str], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
    as_json: bool,
) -> None:
    """Measure each method in each precision; show a record when it is made, or all as JSON."""
    records = []
    for method, precision in product(methods_of(methods), precisions_of(precisions)):
        records.append(measure(method, precision))
        if not as_json:
            show(records[-1])
    if as_json:
        click.echo(json.dumps(records))
