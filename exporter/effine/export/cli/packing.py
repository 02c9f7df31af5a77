"""`effine keygen`, `pack` and `install`: the way of an artifact into an app."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from effine.export.cli.common import ARTIFACT, FILE, json_option
from effine.runtime.bundle import MAX_VERSION

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("private", type=FILE, default="key.pem")
@json_option
def keygen(private: Path, as_json: bool) -> None:
    """Make a key to sign with: PRIVATE, which stays with you, and the public key beside it.

    \b
    effine keygen key.pem
    """
    from effine.export.signing import make_key

    public = make_key(private)
    if as_json:
        click.echo(json.dumps({"private": str(private), "public": str(public)}))
    else:
        click.echo(f"{private}: private key, keep it secret\n{public}: public key, for the app")


@click.command()
@click.argument("artifacts", type=ARTIFACT, nargs=-1, required=True)
@click.option("--android", type=_FOLDER, help="The app's assets; gets a folder effine.")
@click.option("--ios", type=_FOLDER, help="The app's resources; get a folder effine.")
@click.option("--zip", "archive", type=FILE, help="One file, for download; has to be signed.")
@click.option("--sign", type=FILE, help="Private key; see `effine keygen`.")
@click.option(
    "--version",
    type=click.IntRange(1, MAX_VERSION),
    default=1,
    show_default=True,
    help="Of the bundle; a phone doesn't go back to a lower one.",
)
@click.option(
    "--allow-unverified",
    is_flag=True,
    help="Pack artifacts that no parity report vouches for, and mark the bundle.",
)
@json_option
def pack(artifacts: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Pack artifacts into an app, each backbone once; replaces what was packed there before.

    \b
    effine pack triage.effine --android app/src/main/assets --sign key.pem
    effine pack triage.effine mood.effine --zip update.zip --sign key.pem --version 2
    """
    from effine.export.pack import pack as run

    done = run(artifacts, warn=lambda line: click.echo(line, err=True), **options)
    if as_json:
        written = [str(path) for path in done.written]
        shown = {"version": done.info.version, "verified": done.info.verified}
        click.echo(json.dumps({"written": written, "bytes": done.size, **shown}))
        return
    shared = f", {done.saved / 1e6:.1f} MB saved by sharing" if done.saved else ""
    marks = ("" if options["sign"] else ", unsigned") + (
        "" if done.info.verified else ", unverified"
    )
    for path in done.written:
        click.echo(
            f"{path}: version {done.info.version}, {len(done.info.artifacts)} artifact(s), "
            f"{done.size / 1e6:.1f} MB{shared}{marks}"
        )


@click.command()
@click.argument("archive", type=FILE)
@click.option("--out", type=_FOLDER, required=True, help="A folder for installed bundles alone.")
@click.option("--public-key", type=FILE, required=True, help="PEM file of the signer's key.")
@json_option
def install(archive: Path, out: Path, public_key: Path, as_json: bool) -> None:
    """Install what `effine pack --zip` wrote, as a phone does.

    \b
    effine install update.zip --out installed --public-key key.pub.pem
    """
    from effine.runtime.install import install as run
    from effine.runtime.signing import PublicKey

    done = run(archive, out, PublicKey.read(public_key))
    info = done.bundle.info
    if as_json:
        shown = {"version": info.version, "verified": info.verified, "orphans": done.orphans}
        click.echo(json.dumps({"path": str(done.bundle.path), **shown}))
        return
    click.echo(f"{done.bundle.path}: version {info.version}, {', '.join(info.artifacts)}")
    for name in done.orphans:
        click.echo(f"{name}: checkpoints don't go on; what they belong to stays in {done.kept}")
