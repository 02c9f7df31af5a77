"""Writes the command reference, docs/commands.md, from `--help`.

`python -m effine.export.docs` writes it; with `--check` it fails if it is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from effine.export.cli import main
from effine.export.cli.export import export_command

REFERENCE = Path("docs", "commands.md")
_WIDTH = 100


def reference() -> str:
    """The command reference as Markdown."""
    parts = ["# Commands\n\nGenerated from `--help` by `make docs`.\n"]
    for name, command in [("effine-export", export_command), *_commands("effine", main)]:
        context = click.Context(command, info_name=name, max_content_width=_WIDTH)
        context.terminal_width = _WIDTH
        parts.append(f"## {name}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from _commands(f"{name} {child}", command.commands[child])


if __name__ == "__main__":
    written = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    if "--check" in sys.argv:
        if written != reference():
            sys.exit(f"{REFERENCE} is out of date; run `make docs`")
    else:
        REFERENCE.parent.mkdir(exist_ok=True)
        REFERENCE.write_text(reference(), encoding="utf-8")
