"""`effine parity`, `inspect`, `extract` and `methods`: looking at what there is."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click

from effine.export.cli.common import ARTIFACT, FILE, json_option, threads_option


@click.command()
@click.argument("artifact", type=ARTIFACT)
@click.option(
    "--on",
    "engines",
    default="python",
    show_default=True,
    help="Comma-separated engines: python, native, arm64, jvm, android.",
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


@click.command()
@click.argument("artifact", type=ARTIFACT)
@click.option("--ops", is_flag=True, help="Time the programs and list what isn't delegated.")
@click.option("--public-key", type=FILE, help="PEM file of the key that must have signed it.")
@threads_option
@json_option
def inspect(
    artifact: Path, ops: bool, public_key: Path | None, threads: int | None, as_json: bool
) -> None:
    """Show what an artifact holds, after verifying it.

    \b
    effine inspect spartan.effine
    effine inspect spartan.effine --ops
    effine inspect app/src/main/assets/effine/spartan.effine --public-key key.pub.pem
    """
    from effine.export.show import print_manifest, print_profile
    from effine.runtime.artifact import Artifact
    from effine.runtime.signing import PublicKey

    opened = Artifact.open(artifact, PublicKey.read(public_key) if public_key else None)
    if ops:
        from effine.export.profile import profile

        profiles = profile(opened, threads)
        if as_json:
            click.echo(json.dumps([dataclasses.asdict(found) for found in profiles]))
        else:
            print_profile(profiles)
    elif as_json:
        click.echo(opened.manifest.to_json(), nl=False)
    else:
        print_manifest(opened.manifest)


@click.command()
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


@click.command()
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
