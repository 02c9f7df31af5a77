"""The command line: `effine` with its subcommands, and `effine-export`.

Each command is thin: it parses options and calls one function. Exit codes: 0 fine,
1 a check failed, 2 used wrongly.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from effine.export.bench.commands import bench
from effine.export.errors import ExportError
from effine.runtime.errors import EffineError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
FILE = click.Path(dir_okay=False, path_type=Path)
ARTIFACT = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
threads_option = click.option("--threads", type=click.IntRange(1), help="Size of the thread pool.")


class _Group(click.Group):
    """A group whose commands show user errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        return _one_line(lambda: super(_Group, self).invoke(ctx))


class _Command(click.Command):
    def invoke(self, ctx: click.Context) -> Any:
        return _one_line(lambda: super(_Command, self).invoke(ctx))


def _one_line(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except EffineError as error:
        raise click.UsageError(" ".join(str(error).split())) from error


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(package_name="effine")
def main() -> None:
    """Fine-tune Transformer encoders on phones.

    \b
    effine-export --method spartan
    effine train spartan.effine --data train.csv --eval dev.csv
    effine predict spartan.effine "wake me at seven"
    """
    _quiet()


@click.command("export", cls=_Command, context_settings=CONTEXT)
@click.option("--model", default="minilm", show_default=True, help="Hub id, directory or 'minilm'.")
@click.option("--method", default="spartan", show_default=True, help="See `effine methods`.")
@click.option(
    "--method-option",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an option of the method; see `effine methods NAME`.",
)
@click.option("--options", "options_file", type=FILE, help="TOML file with method options.")
@click.option(
    "--first-layer",
    type=click.IntRange(0),
    help="First layer (1-based) with pieces; those below stay frozen.",
)
@click.option(
    "--task", default="classification", show_default=True, help="classification or regression."
)
@click.option("--data", type=FILE, help="CSV, TSV or JSONL; by default the sample intents.")
@click.option("--labels", type=FILE, help="File with one label a line; replaces --data.")
@click.option(
    "--spare-labels",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Labels that may be added on the device.",
)
@click.option(
    "--pooling",
    type=click.Choice(["cls", "mean"]),
    help="First token or mean; by default what suits the backbone.",
)
@click.option(
    "--seq",
    default="auto",
    show_default=True,
    help="Sequence lengths such as 16,64, or auto: from the data.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Batch size of training."
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "sgd"]),
    default="adamw",
    show_default=True,
    help="Optimizer inside the training program.",
)
@click.option(
    "--weight-decay",
    type=float,
    default=0.01,
    show_default=True,
    help="Decoupled weight decay; none on biases and norms.",
)
@click.option(
    "--clip-norm",
    type=float,
    default=0.0,
    show_default=True,
    help="Bound on the norm of all gradients; 0 for none.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of initial values.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: METHOD.effine here.")
@click.option("--force", is_flag=True, help="Replace an existing artifact.")
@json_option
def export_command(
    assignments: tuple[str, ...], options_file: Path | None, as_json: bool, **settings: Any
) -> None:
    """Export a pretrained encoder as an artifact that a phone can train.

    \b
    effine-export --method spartan
    effine-export --method read --data train.csv --out triage.effine
    """
    _quiet()
    from effine.export.methods import read_options
    from effine.export.pipeline import export

    options: dict[str, Any] = read_options(options_file) if options_file else {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise ExportError(f"--method-option {assignment}: expected NAME=VALUE")
        options[name] = value
    progress = _no_progress if as_json else _print_stage
    artifact = export(options=options, progress=progress, **settings)
    size = sum(entry.size for entry in artifact.manifest.files.values())
    if as_json:
        click.echo(json.dumps({"path": str(artifact.path), "bytes": size}))
    else:
        click.echo(f"{_shown(artifact.path)}: {size / 1e6:.1f} MB, seq {_seqs(artifact)}")


main.add_command(export_command)
main.add_command(bench)


@main.command()
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
@click.option("--cache", type=FILE, help="Keep the feature cache in this file.")
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
    from effine.runtime.trainer import Trainer

    out = out or _beside(artifact)
    if out.exists() and not (resume or force):
        raise ExportError(f"{out}: exists already; pass --resume to go on with it, or --force")
    if resume and not out.exists():
        raise ExportError(f"--resume: {out} doesn't exist; start without --resume")
    trainer = Trainer(artifact, threads=threads, cache=cache or True)
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


@main.command()
@click.argument("artifact", type=ARTIFACT)
@click.argument("texts", nargs=-1)
@click.option("--data", type=FILE, help="Predict for a file instead of TEXTS.")
@click.option("--checkpoint", type=FILE, help="What training wrote; default: beside the artifact.")
@threads_option
@json_option
def predict(
    artifact: Path,
    texts: tuple[str, ...],
    data: Path | None,
    checkpoint: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict labels with probabilities, or scores.

    \b
    effine predict spartan.effine "wake me at seven"
    """
    from effine.export.show import print_predictions
    from effine.runtime.data import load_examples

    if bool(texts) == bool(data):
        raise ExportError("give either TEXTS or --data")
    trainer = _trainer(artifact, checkpoint, threads)
    task = trainer.artifact.manifest.task.name
    examples = (
        load_examples(data, task, labelled=False) if data else [{"text": text} for text in texts]
    )
    predictions = trainer.predict(examples)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(p) for p in predictions], ensure_ascii=False))
    else:
        print_predictions(predictions)


@main.command()
@click.argument("artifact", type=ARTIFACT)
@click.option("--data", type=FILE, required=True, help="Labelled data: CSV, TSV or JSONL.")
@click.option("--checkpoint", type=FILE, help="What training wrote; default: beside the artifact.")
@threads_option
@json_option
def evaluate(
    artifact: Path, data: Path, checkpoint: Path | None, threads: int | None, as_json: bool
) -> None:
    """Measure the metrics of a checkpoint on labelled data.

    \b
    effine evaluate spartan.effine --data test.csv
    """
    metrics = _trainer(artifact, checkpoint, threads).evaluate(data)
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        for name, value in metrics.items():
            click.echo(f"{name}: {value:.4f}")


@main.command()
@click.argument("artifact", type=ARTIFACT)
@click.option(
    "--on",
    "engines",
    default="python",
    show_default=True,
    help="Comma-separated engines: python, native.",
)
@threads_option
@json_option
def parity(artifact: Path, engines: str, threads: int | None, as_json: bool) -> None:
    """Replay the golden run and compare it with PyTorch's; fails if they disagree.

    \b
    effine parity spartan.effine --on python,native
    """
    from effine.export.parity import run_parity
    from effine.export.show import print_parity

    reports = run_parity(artifact, engines.split(","), threads)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(r) | {"passed": r.passed} for r in reports]))
    else:
        for report in reports:
            print_parity(report)
    if not all(report.passed for report in reports):
        sys.exit(1)


@main.command()
@click.argument("artifact", type=ARTIFACT)
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what an artifact holds, after verifying it.

    \b
    effine inspect spartan.effine
    """
    from effine.export.show import print_manifest
    from effine.runtime.artifact import Artifact

    manifest = Artifact.open(artifact).manifest
    if as_json:
        click.echo(manifest.to_json(), nl=False)
    else:
        print_manifest(manifest)


@main.command()
@click.argument("checkpoint", type=FILE)
@click.option(
    "--artifact",
    type=ARTIFACT,
    help="What it was trained with; default: a matching artifact in its folder or here.",
)
@click.option("--model", help="The backbone, if it isn't where it was at export.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory to write.",
)
@click.option("--force", is_flag=True, help="Replace files in an existing directory.")
@json_option
def extract(
    checkpoint: Path,
    artifact: Path | None,
    model: str | None,
    out: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write the trained pieces as safetensors; LoRA in PEFT form.

    \b
    effine extract spartan.ckpt --out weights/
    """
    from effine.export.extract import extract as run

    result = run(checkpoint, artifact, out, model=model, force=force)
    click.echo(
        json.dumps(result)
        if as_json
        else f"{out}: {result['tensors']} tensors; logits after reload equal "
        f"(largest difference {result['difference']:.2g})"
    )


@main.command()
@click.argument("name", required=False)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the methods, or one method's options with defaults and meaning.

    \b
    effine methods spartan
    """
    from effine.export.methods import describe_methods
    from effine.export.show import print_methods

    described = describe_methods(name)
    if as_json:
        click.echo(json.dumps(described))
    else:
        print_methods(described, details=name is not None)


def _trainer(artifact: Path, checkpoint: Path | None, threads: int | None) -> Any:
    from effine.runtime.trainer import Trainer

    trainer = Trainer(artifact, threads=threads)
    if checkpoint is None and _beside(artifact).exists():
        checkpoint = _beside(artifact)
    if checkpoint is None:
        click.echo("no checkpoint: using the initial, untrained state", err=True)
    else:
        trainer.load(checkpoint)
    return trainer


def _beside(artifact: Path) -> Path:
    """Where `train` leaves its checkpoint and `predict` looks for one."""
    return artifact.absolute().with_suffix(".ckpt")


def _seqs(artifact: Any) -> str:
    return ",".join(map(str, artifact.manifest.shapes.seqs))


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_stage(stage: str) -> None:
    click.echo(f"{stage} ...", err=True)


def _no_progress(stage: str) -> None:
    """Print nothing."""


def _quiet() -> None:
    """Keep notices of the libraries away from the user's terminal."""
    import logging
    import os
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
