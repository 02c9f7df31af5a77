"""`effine bench report`."""

from __future__ import annotations

from pathlib import Path

import click

from effine.export.bench.commands.options import FILE, FOLDER
from effine.export.bench.records import read_records
from effine.export.errors import ExportError


@click.command()
@click.argument("results", type=FILE, nargs=-1, required=True)
@click.option(
    "--out", type=FILE, default=Path("BENCHMARKS.md"), show_default=True, help="The page."
)
@click.option(
    "--plots", type=FOLDER, default=Path("docs/results"), show_default=True, help="For the plots."
)
@click.option("--check", is_flag=True, help="Write nothing; fail if page or plots are outdated.")
def report(results: tuple[Path, ...], out: Path, plots: Path, check: bool) -> None:
    """Make a page with tables and plots out of results files alone.

    Of records with the same settings, the newest counts.

    \b
    effine bench report docs/results/*.jsonl --out BENCHMARKS.md
    """
    from effine.export.bench.report.page import outdated, write_page

    for path in results:
        if not path.exists():
            raise ExportError(f"{path}: no such file")
    if not out.absolute().parent.is_dir():
        raise ExportError(f"{out.parent}: no such directory; create it first")
    records = [record for path in results for record in read_records(path)]
    if not check:
        write_page(records, out, plots)
        return
    if found := outdated(records, out, plots):
        raise click.ClickException(f"{', '.join(found)}: out of date; run `make benchmarks`")
