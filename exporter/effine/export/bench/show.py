"""What the benchmarks print."""

from __future__ import annotations

from typing import Any

import click

from effine.export.bench.report.text import subject


def print_step(record: dict[str, Any]) -> None:
    """A line for each side: its time, and effine's step over it."""
    click.echo(
        f"{record['method']} {record['precision']} {record['pooling']} B={record['batch']} "
        f"S={record['seq']} threads={record['threads']}, {_load(record)}"
    )
    for name, ms in record["ms"].items():
        line = f"  {name:18} {_range(ms, '7.1f')} ms"
        if name in record["ratios"]:
            line += f"  ratio {_range(record['ratios'][name]['step'], '.3f')}"
            line += f"  of medians {record['ratios'][name]['step']['of_medians']:.3f}"
        click.echo(line)
    for name, reason in record["unavailable"].items():
        click.echo(f"  {name:18} not measured: {reason}")


def print_sdk(record: dict[str, Any]) -> None:
    """The update and its programs, with their ratio."""
    click.echo(
        f"{record['method']} {record['precision']} B={record['batch']} S={record['seq']} "
        f"threads={record['threads']}, {_load(record)}"
    )
    for name, what in {"step": "update in Kotlin", "bare": "its programs"}.items():
        click.echo(f"  {what:18} {_range(record['ms'][name], '7.2f')} ms")
    ratio = record["ratio"]
    click.echo(
        f"  ratio {_range(ratio, '.4f')}  of medians {ratio['of_medians']:.4f}; an update "
        f"allocates {record['heap']:,} bytes on the heap, {record['direct']:,} in direct memory"
    )


def print_epoch(record: dict[str, Any]) -> None:
    """One measurement of `bench epoch`."""
    later = "-" if record["later_ratio"] is None else f"{record['later_ratio']:.3f}"
    click.echo(
        f"{record['method']} {record['precision']} {record['examples']} examples, "
        f"seq {record['seqs']}, threads={record['threads']}: "
        f"first epoch {record['first_ratio']:.3f}, later {later}, {_load(record)}"
    )
    for name in ("effine_s", "eager_s"):
        click.echo(f"  {name[:-2]:6} " + "  ".join(f"{s:.2f} s" for s in record[name]))


def print_scaling(record: dict[str, Any]) -> None:
    """The points, and the two fits."""
    click.echo(
        f"{record['method']} {record['precision']} threads={record['threads']}, {_load(record)}"
    )
    for point in record["points"]:
        click.echo(f"  B={point['batch']:<3} S={point['seq']:<4} {point['ms']:8.2f} ms")
    fit = record["fit"]
    click.echo(
        f"  ms = {fit['a']:.3g} + {fit['b']:.3g} B S + {fit['c']:.3g} B S^2, R2 {fit['r2']:.4f}"
    )
    for layer in record["layers"]:
        click.echo(
            f"  first layer {layer['first_layer']}: {layer['above']} above the cut, "
            f"step {layer['step_ms']:.2f} ms, train {layer['train_ms']:.2f} ms"
        )
    for name, line in record["lines"].items():
        click.echo(f"  {name} ms = {line['a']:.3g} + {line['b']:.3g} layers, R2 {line['r2']:.4f}")


def print_size(record: dict[str, Any]) -> None:
    """The artifact's files, and what others need for the same."""
    total = sum(record["files"].values())
    click.echo(f"{record['method']} {record['precision']}: {_megabytes(total)}")
    for name, size in sorted(record["files"].items(), key=lambda item: -item[1]):
        click.echo(f"  {name:20} {_megabytes(size)}")
    for name, size in record["rivals"].items():
        click.echo(f"  against {name:24} {_megabytes(size)}  ratio {total / size:.3f}")
    for name, reason in record["unavailable"].items():
        click.echo(f"  {name} not measured: {reason}")


def print_memory(record: dict[str, Any]) -> None:
    """The runner's peak, measured and predicted, and PyTorch's growth."""
    peak, predicted = record["peak"], record["predicted"]
    click.echo(
        f"{subject(record)} B={record['batch']} "
        f"S={','.join(map(str, record['seqs']))}: native runner {_megabytes(peak)}, "
        f"predicted {_megabytes(predicted)} ({predicted / peak - 1:+.1%})"
    )
    for name, growth in record["rivals"].items():
        click.echo(f"  PyTorch {name:6} grows by {_megabytes(growth)}  ratio {peak / growth:.3f}")


def print_tasks(record: dict[str, Any]) -> None:
    """Memory with one more task loaded a line."""
    click.echo(f"{record['model']} {record['precision']} S={','.join(map(str, record['seqs']))}")
    for task in record["tasks"]:
        click.echo(
            f"  + {task['method']:10} peak {_megabytes(task['peak'])}, "
            f"resident {_megabytes(task['resident'])}"
        )


def print_export(record: dict[str, Any]) -> None:
    """Seconds by stage, and the peak memory."""
    click.echo(
        f"{record['method']} {record['precision']}: {record['seconds']:.1f} s, "
        f"peak {_megabytes(record['peak'])}, each lowering process "
        f"{_megabytes(record['worker_peak'])} at most, {_load(record)}"
    )
    for stage, seconds in record["stages"].items():
        click.echo(f"  {stage:28} {seconds:6.1f} s")


def _range(values: dict[str, float], form: str) -> str:
    return f"{values['median']:{form}} ({values['lower']:{form}} to {values['upper']:{form}})"


def _load(record: dict[str, Any]) -> str:
    before, after = record["load"]
    return f"load {before:.2f} -> {after:.2f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
