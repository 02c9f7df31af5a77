"""`effine bench`: its commands, one file for each concern."""

from __future__ import annotations

import click

from effine.export.bench.commands.export import export, memory, size, tasks
from effine.export.bench.commands.papers import papers
from effine.export.bench.commands.quality import quality
from effine.export.bench.commands.report import report
from effine.export.bench.commands.sdk import sdk
from effine.export.bench.commands.shapes import shapes
from effine.export.bench.commands.timing import epoch, scaling, step


@click.group()
def bench() -> None:
    """Compare with rivals: speed, sizes, and what training reaches.

    \b
    effine bench step --rivals eager,compile --results results.jsonl
    effine bench epoch --data train.jsonl
    effine bench quality --data snips/ --train-size 200
    effine bench papers --paper read --data snips/
    effine bench report results.jsonl --out BENCHMARKS.md
    """


COMMANDS = (
    *(step, epoch, shapes, scaling, sdk),
    *(size, memory, tasks, export),
    *(quality, papers, report),
)
for command in COMMANDS:
    bench.add_command(command)
