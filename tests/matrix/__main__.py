"""`python -m matrix`, in the repository's root and with `tests` on the path.

python -m matrix --methods adapter,far --models bert --targets onnx
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from effine.export.bench.commands.options import FILE, words_of
from effine.export.bench.records import read_records
from effine.export.cli.common import CONTEXT, Command, quiet
from effine.export.errors import ExportError

DIMENSIONS = ("methods", "tasks", "models", "targets", "precisions")


def _filters(command: Any) -> Any:
    for name in reversed(DIMENSIONS):
        command = click.option(f"--{name}", help="Comma-separated; by default all.")(command)
    return command


@click.command(cls=Command, context_settings=CONTEXT)
@_filters
@click.option(
    "--results", type=FILE, default=Path("docs/matrix.jsonl"), show_default=True, help="Records."
)
@click.option(
    "--out", type=FILE, default=Path("docs/matrix.md"), show_default=True, help="The page."
)
@click.option("--check", is_flag=True, help="Run and write nothing; fail if the page is outdated.")
def main(results: Path, out: Path, check: bool, **filters: str | None) -> None:
    """Run the combinations that the records lack or have of other sources; write the page.

    It may be interrupted and goes on where it was. Ends with 1 if a combination failed.
    """
    quiet()
    from matrix.cases import cases
    from matrix.page import render
    from matrix.run import FAILED, Isolated, case_of, outcome, run

    if check:
        written = out.read_text(encoding="utf-8") if out.exists() else ""
        if written != render(read_records(results)):
            raise click.ClickException(f"{out}: out of date; run `make matrix`")
        return
    wanted = list(cases(**_chosen(filters)))
    try:
        with Isolated(outcome) as judge:
            run(wanted, results, judge, lambda line: click.echo(line, err=True))
    finally:
        out.write_text(render(read_records(results)), encoding="utf-8")
    outcomes = {case_of(record): record["outcome"] for record in read_records(results)}
    sys.exit(any(outcomes[case] == FAILED for case in wanted))


def _chosen(filters: Mapping[str, str | None]) -> dict[str, Sequence[str]]:
    """What each filter leaves, in the given order.

    Raises:
        ExportError: a name is unknown.
    """
    from matrix.cases import CHOICES

    chosen = {}
    for dimension, text in filters.items():
        known = CHOICES[dimension]
        chosen[dimension] = known if text is None else words_of(text)
        for word in chosen[dimension]:
            if word not in known:
                raise ExportError(f"--{dimension} {word}: choose from {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    main()
