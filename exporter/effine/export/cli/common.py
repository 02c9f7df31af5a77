"""What the commands share: options, errors in one line, silence of the libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from effine.runtime.errors import EffineError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
FILE = click.Path(dir_okay=False, path_type=Path)
_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
ARTIFACT = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
threads_option = click.option("--threads", type=click.IntRange(1), help="Size of the thread pool.")


def size(text: str) -> int:
    """Bytes of a size such as 512MB; without a unit it is one.

    Raises:
        click.BadParameter: the text is anything else.
    """
    found = re.fullmatch(r"([0-9]{1,12})(kB|MB|GB|)", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size such as 512MB")
    return int(found[1]) * _UNITS[found[2]]


class Group(click.Group):
    """A group whose commands show user errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a user error ends as one line, exit code 2."""
        return _one_line(lambda: super(Group, self).invoke(ctx))


class Command(click.Command):
    """A command that shows user errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a user error ends as one line, exit code 2."""
        return _one_line(lambda: super(Command, self).invoke(ctx))


def _one_line(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except EffineError as error:
        raise click.UsageError(" ".join(str(error).split())) from error


def quiet() -> None:
    """Keep notices of the libraries away from the user's terminal."""
    import logging
    import os
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
