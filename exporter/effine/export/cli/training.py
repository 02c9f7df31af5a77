"""`effine train`, `predict` and `evaluate`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from effine.export.cli.common import ARTIFACT, FILE, json_option, size, threads_option
from effine.export.errors import ExportError


@click.command()
@click.argument("artifact", type=ARTIFACT)
@click.option("--data", type=FILE, required=True, help="Training data: CSV, TSV or JSONL.")
@click.option("--eval", "eval_data", type=FILE, help="Data for the metric; enables keep-best.")
@click.option("--out", type=FILE, help="Checkpoint to write; default: beside the artifact.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")
@click.option("--continue-from", type=FILE, help="Start from the parameters of a checkpoint.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data.")
@click.option("--piece-rate", type=float, help="Peak learning rate of the pieces.")
@click.option("--head-rate", type=float, help="Peak learning rate of the head.")
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear", "cosine"]),
    help="Course of the learning rates.",
)
@click.option("--warmup", type=click.FloatRange(0, 1), help="Share of updates that warm up.")
@click.option("--accumulate", type=click.IntRange(1), help="Batches that make one update.")
@click.option("--seed", type=int, help="Seed of the order of samples.")
@click.option("--class-weights", type=click.Choice(["balanced"]), help="Weight rare labels more.")
@click.option("--patience", type=click.IntRange(0), help="Stop after so many epochs without gain.")
@click.option("--add-label", "new_labels", multiple=True, help="Claim a spare label.")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Updates between checkpoints.",
)
@click.option("--phase", help="Start in this phase of the artifact, such as keep50.")
@click.option("--cache", type=FILE, help="Keep the feature cache in this file.")
@click.option("--cache-size", type=size, help="Largest size of the cache; default: 512MB.")
@click.option(
    "--cache-precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="What features are rounded to; default: fp32.",
)
@click.option("--plot", type=FILE, help="Write the learning curve as a picture.")
@click.option("--force", is_flag=True, help="Replace an existing checkpoint.")
@threads_option
@json_option
def train(
    artifact: Path,
    data: Path,
    eval_data: Path | None,
    out: Path | None,
    resume: bool,
    continue_from: Path | None,
    new_labels: tuple[str, ...],
    checkpoint_every: int,
    cache: Path | None,
    cache_size: int | None,
    plot: Path | None,
    force: bool,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train an artifact on its ExecuTorch programs.

    \b
    effine train spartan.effine --data train.csv --eval dev.csv --epochs 3
    """
    from effine.export.show import draw_curve, print_report, progress_bar
    from effine.runtime.feature_cache import DEFAULT_BOUND
    from effine.runtime.trainer import Trainer

    out = out or _beside(artifact)
    if out.exists() and not (resume or force):
        raise ExportError(f"{out}: exists already; pass --resume to go on with it, or --force")
    if resume and not out.exists():
        raise ExportError(f"--resume: {out} doesn't exist; start without --resume")
    trainer = Trainer(
        artifact,
        threads=threads,
        cache=cache or True,
        cache_bound=DEFAULT_BOUND if cache_size is None else cache_size,
        notify=lambda line: None if as_json else click.echo(line),
    )
    with progress_bar(hidden=as_json) as callback:
        common: dict[str, Any] = {
            "eval": eval_data,
            "callbacks": [callback],
            "checkpoint_every": checkpoint_every,
        }
        if resume:
            report = trainer.resume(out, data, **common, **settings)
        else:
            if continue_from:
                trainer.load(continue_from)
            for label in new_labels:
                trainer.add_label(label)
            start = trainer.continue_with if continue_from else trainer.fit
            report = start(data, checkpoint=out, **common, **settings)
    if plot:
        draw_curve(report, trainer.artifact.manifest, plot)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        print_report(report, trainer.artifact.manifest, out)


phase_option = click.option("--phase", help="Compute as in this phase; default: the checkpoint's.")


@click.command()
@click.argument("artifact", type=ARTIFACT)
@click.argument("texts", nargs=-1)
@click.option("--data", type=FILE, help="Predict for a file instead of TEXTS.")
@click.option("--checkpoint", type=FILE, help="What training wrote; default: beside the artifact.")
@phase_option
@threads_option
@json_option
def predict(
    artifact: Path,
    texts: tuple[str, ...],
    data: Path | None,
    checkpoint: Path | None,
    phase: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict labels with probabilities, scores, or the entities of a text.

    \b
    effine predict spartan.effine "wake me at seven"
    """
    from effine.export.show import print_predictions
    from effine.runtime.data import load_examples

    if bool(texts) == bool(data):
        raise ExportError("give either TEXTS or --data")
    trainer = _trainer(artifact, checkpoint, threads, phase)
    task = trainer.artifact.manifest.task.name
    predictions = trainer.predict(load_examples(data, task, labelled=False) if data else texts)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(p) for p in predictions], ensure_ascii=False))
    else:
        print_predictions(predictions)


@click.command()
@click.argument("artifact", type=ARTIFACT)
@click.option("--data", type=FILE, required=True, help="Labelled data: CSV, TSV or JSONL.")
@click.option("--checkpoint", type=FILE, help="What training wrote; default: beside the artifact.")
@phase_option
@threads_option
@json_option
def evaluate(
    artifact: Path,
    data: Path,
    checkpoint: Path | None,
    phase: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the metrics of a checkpoint on labelled data.

    \b
    effine evaluate spartan.effine --data test.csv
    """
    metrics = _trainer(artifact, checkpoint, threads, phase).evaluate(data)
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        for name, value in metrics.items():
            click.echo(f"{name}: {value:.4f}")


def _trainer(
    artifact: Path, checkpoint: Path | None, threads: int | None, phase: str | None
) -> Any:
    from effine.runtime.trainer import Trainer

    trainer = Trainer(artifact, threads=threads)
    if checkpoint is None and _beside(artifact).exists():
        checkpoint = _beside(artifact)
    if checkpoint is None:
        click.echo("no checkpoint: using the initial, untrained state", err=True)
    else:
        trainer.load(checkpoint)
    if phase is not None:
        trainer.choose(phase)
    return trainer


def _beside(artifact: Path) -> Path:
    """Where `train` leaves its checkpoint and `predict` looks for one."""
    return artifact.absolute().with_suffix(".ckpt")
