"""The command line: `effine` with its subcommands, and `effine-export`.

Each command is thin: it parses options and calls one function. Exit codes: 0 fine,
1 a check failed, 2 used wrongly.
"""

from __future__ import annotations

import click

from effine.export.bench.commands import bench
from effine.export.cli.checking import extract, inspect, methods, parity
from effine.export.cli.common import CONTEXT, Group, quiet
from effine.export.cli.export import export_command
from effine.export.cli.packing import install, keygen, pack
from effine.export.cli.training import evaluate, predict, train


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(package_name="effine")
def main() -> None:
    """Fine-tune Transformer encoders on phones.

    \b
    effine-export --method spartan
    effine train spartan.effine --data train.csv --eval dev.csv
    effine predict spartan.effine "wake me at seven"
    """
    quiet()


for command in (
    export_command,
    train,
    predict,
    evaluate,
    parity,
    inspect,
    extract,
    methods,
    keygen,
    pack,
    install,
    bench,
):
    main.add_command(command)
