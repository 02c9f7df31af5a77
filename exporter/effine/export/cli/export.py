"""`effine export`, which is also `effine-export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from effine.export.cli.common import CONTEXT, FILE, Command, json_option, quiet, size
from effine.export.errors import ExportError


@click.command("export", cls=Command, context_settings=CONTEXT)
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
    "--task",
    default="classification",
    show_default=True,
    help="classification, multilabel, regression, token-classification or question-answering.",
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
    "--label-words",
    type=FILE,
    help="JSON of labels and the words to start from; with --pooling decoder, by default their "
    "names.",
)
@click.option(
    "--pooling",
    type=click.Choice(["cls", "mean", "decoder"]),
    help="First token, mean, or one step of the backbone's decoder; by default what suits it.",
)
@click.option(
    "--seq",
    default="auto",
    show_default=True,
    help="Sequence lengths such as 16,64, or auto: from the data.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Batch size of training; 8, or what --max-memory allows.",
)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    help="Batches whose gradients are summed up for an update; by default 1.",
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
@click.option(
    "--backbone-precision",
    type=click.Choice(["fp32", "int8", "int4"]),
    help="Of the frozen weights: fp32 by default; int8 is smaller and faster.",
)
@click.option(
    "--recompute/--no-recompute",
    default=None,
    help="Compute results again for the backward pass instead of keeping them: less memory, the "
    "same results, some time.",
)
@click.option(
    "--target",
    default="xnnpack",
    show_default=True,
    help="xnnpack: ExecuTorch programs; onnx: programs for ONNX Runtime.",
)
@click.option(
    "--platform",
    type=click.Choice(["android"]),
    help="Refuse what this platform's SDK can't serve.",
)
@click.option(
    "--max-memory",
    type=size,
    help="Most that training may take, such as 150MB; precision, recomputing, batch and first "
    "layer give way where they aren't set.",
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
    quiet()
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
    total = sum(entry.size for entry in artifact.manifest.files.values())
    if as_json:
        click.echo(json.dumps({"path": str(artifact.path), "bytes": total}))
    else:
        click.echo(f"{_shown(artifact.path)}: {total / 1e6:.1f} MB, {_settings(artifact)}")


def _settings(artifact: Any) -> str:
    """What was chosen where the user left it open."""
    manifest = artifact.manifest
    batch = f"batch {manifest.shapes.batch}"
    if manifest.recipe.accumulate > 1:
        batch = f"{manifest.recipe.accumulate} x {batch}"
    first = manifest.method_info.first_layer
    parts = (
        manifest.backbone.precision,
        f"seq {','.join(map(str, manifest.shapes.seqs))}",
        batch,
        *([f"first layer {first}"] if first is not None else []),
        f"training takes about {manifest.memory.peak / 1e6:.0f} MB"
        if manifest.memory.peak
        else f"for {manifest.target.name}",
    )
    return ", ".join(parts)


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_stage(stage: str) -> None:
    click.echo(f"{stage} ...", err=True)


def _no_progress(stage: str) -> None:
    """Print nothing."""
