"""What people see: progress, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from effine.export.profile import Profile
from effine.runtime.manifest import Manifest
from effine.runtime.manifest_fields import TargetInfo
from effine.runtime.parity import ParityReport
from effine.runtime.predictions import Prediction
from effine.runtime.report import Report
from effine.runtime.run import Callback, Progress


@contextmanager
def progress_bar(hidden: bool = False) -> Iterator[Callback]:
    """A callback that draws a progress bar, on a terminal only."""
    with tqdm(unit=" updates", disable=True if hidden else None, leave=False) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.n = progress.update
            if progress.loss is not None:
                bar.set_postfix(epoch=progress.epoch, loss=f"{progress.loss:.3f}")
            bar.refresh()

        yield show


def print_report(report: Report, manifest: Manifest, checkpoint: Path) -> None:
    """A line per epoch, then warnings."""
    metric = manifest.task.metric
    if report.before:
        click.echo(f"before training: {_metrics(report.before)}")
    for epoch in report.epochs:
        kept = "  <- kept" if epoch.epoch == report.best_epoch else ""
        loss = "no finite loss" if epoch.loss is None else f"loss {epoch.loss:.4f}"
        click.echo(f"epoch {epoch.epoch}: {loss}  {_metrics(epoch.metrics)}{kept}".rstrip())
    if report.metrics and report.before:
        click.echo(f"{metric}: {report.before[metric]:.3f} -> {report.metrics[metric]:.3f}")
    for made in report.decisions:
        click.echo(f"update {made['update']}: {made['phase']}, {made['reason']}")
    if report.truncated:
        click.echo(f"{report.truncated} of {report.samples} texts were truncated")
    if report.uncached:
        click.echo(f"{report.uncached} samples were beyond the size of the cache")
    if report.discarded:
        click.echo(f"{len(report.discarded)} updates were discarded: their loss wasn't finite")
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{'cancelled; ' if report.cancelled else ''}state written to {checkpoint}")


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """One line for each example."""
    for prediction in predictions:
        click.echo(str(prediction))


def print_parity(report: ParityReport) -> None:
    """A line per check with its worst tensor, then the verdict."""
    click.echo(f"parity of {report.engine} on {report.machine}")
    for check in report.checks:
        mark = "ok  " if check.passed else "FAIL"
        click.echo(
            f"  {mark} {check.name:<25} {check.error:9.2e} of {check.limit:<8.2g} "
            f"worst {check.worst}  max abs {check.max_abs:.1e}  relative {check.relative:.1e}"
        )
    if report.ties:
        click.echo(f"  {report.ties} decisions were closer than 1e-5 to a tie")
    click.echo("passed" if report.passed else "FAILED: this engine doesn't train as PyTorch does")


def print_manifest(manifest: Manifest) -> None:
    """What an artifact holds, for people."""
    method, backbone, task = manifest.method_info, manifest.backbone, manifest.task
    options = ", ".join(f"{key}={value}" for key, value in method.options.items())
    trained = sum(_count(entry.shape) for entry in manifest.parameters)
    rows = {
        "name": manifest.name,
        "method": f"{method.name} ({options})" if options else method.name,
        "backbone": f"{backbone.name}: {backbone.architecture}, {backbone.depth} layers of "
        f"{backbone.hidden}, pooling {backbone.pooling}, {backbone.precision}",
        "below the cut": f"{method.layers_below} layers",
        "phases": _listed(manifest.phases),
        "task": f"{task.name}, {'pairs' if task.pair else 'single texts'}, "
        f"{len(task.labels)} labels and {task.spare_labels} spare",
        "labels": ", ".join(task.labels),
        "shapes": f"batch {manifest.shapes.batch}, sequences {_listed(manifest.shapes.seqs)}",
        "trained": f"{trained:,} parameters, {manifest.optimizer.name}",
        "memory": f"{manifest.memory.peak / 1e6:.0f} MB in the native runner (predicted)"
        f"{', results computed again' if manifest.memory.recompute else ''}"
        if manifest.memory.peak
        else "",
        "frozen head": "not measured"
        if manifest.frozen_head is None
        else f"{manifest.frozen_head.metric} {manifest.frozen_head.score:.3f} "
        f"({manifest.frozen_head.data})",
        "target": _target(manifest.target),
        "made with": f"effine {manifest.effine}, torch {manifest.torch}",
        "state id": manifest.state_id,
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name + ':':<15} {value}")
    for program in manifest.programs.values():
        click.echo(f"{program.file + ':':<15} {_listed(program.methods)}")
    for name, entry in manifest.files.items():
        click.echo(f"  {name:<20} {entry.size:>12,} bytes  sha256 {entry.sha256[:16]}...")


def print_profile(profiles: Sequence[Profile]) -> None:
    """What each method spends outside delegates."""
    for found in profiles:
        click.echo(
            f"{found.method}: {found.ms:.2f} ms, {found.delegates} delegates, "
            f"{found.outside:.1%} of the time outside"
        )
        for operator in found.operators:
            click.echo(
                f"  {operator.share:6.2%}  {operator.ms:8.4f} ms  "
                f"{operator.calls:3} x {operator.name}"
            )


def print_methods(described: Sequence[dict[str, Any]], *, details: bool) -> None:
    """The methods; with details also options and recipe."""
    for method in described:
        click.echo(f"{method['name']:<9} {method['summary']}")
        if not details:
            continue
        for option in method["options"]:
            choices = f" [{'|'.join(option['choices'])}]" if option["choices"] else ""
            click.echo(f"  {option['name']} = {option['default']}{choices}: {option['meaning']}")
        recipe = ", ".join(f"{key} {value}" for key, value in method["recipe"].items())
        click.echo(f"  recipe: {recipe}")
        if method["notes"]:
            click.echo(f"  {method['notes']}")


def draw_curve(report: Report, manifest: Manifest, path: Path) -> None:
    """Draw loss and metric by epoch, and changes of phase, into a PNG or SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric = manifest.task.metric
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    epochs = [epoch.epoch for epoch in report.epochs]
    axes.plot(epochs, [epoch.loss for epoch in report.epochs], "o-", color="tab:blue")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean training loss", color="tab:blue")
    axes.set_title(f"{manifest.name}: {manifest.method_info.name} on {manifest.backbone.name}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    before = manifest.first_phase
    for made in report.decisions:
        if made["phase"] != before:
            axes.axvline(made["epoch"], color="tab:green", linestyle="--", linewidth=1)
            height = axes.get_xaxis_transform()
            axes.text(made["epoch"], 0.01, made["phase"], transform=height, color="tab:green")
        before = made["phase"]
    if report.before:
        right = axes.twinx()
        scores = [report.before[metric], *(epoch.metrics[metric] for epoch in report.epochs)]
        right.plot([0, *epochs], scores, "s-", color="tab:orange")
        right.set_ylabel(f"{metric} on evaluation data", color="tab:orange")
        right.set_ylim(top=1.02)
        if manifest.frozen_head is not None:
            label = f"frozen head {manifest.frozen_head.score:.3f}"
            right.axhline(manifest.frozen_head.score, color="gray", linestyle=":", label=label)
            right.legend(loc="center right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _metrics(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def _target(target: TargetInfo) -> str:
    if target.name == "onnx":
        return f"onnx {target.version}, opset {target.opset}"
    return f"{target.name}, executorch {target.version}"


def _listed(items: Any) -> str:
    return ", ".join(map(str, items))


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
