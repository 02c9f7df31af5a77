"""Options that the benchmarks share, and the record of what a command measured."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from effine.export.bench.records import append_record, load_average, read_records, stamped
from effine.export.errors import ExportError

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PRECISIONS = ("fp32", "int8", "int4")
_OF_THIS_MACHINE = ("results", "work", "ort_python", "as_json")

model_option = click.option(
    "--model", default="minilm", show_default=True, help="Hub id, directory or 'minilm'."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
task_option = click.option(
    "--task",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="What is learned.",
)
precision_option = click.option(
    "--backbone-precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the programs' frozen weights; rivals stay fp32.",
)
recompute_option = click.option(
    "--recompute",
    is_flag=True,
    help="The programs compute results again for the backward pass instead of keeping them.",
)
batch_option = click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Batch size."
)
seq_option = click.option(
    "--seq", type=click.IntRange(8), default=64, show_default=True, help="Tokens a text."
)
steps_option = click.option(
    "--steps", type=click.IntRange(1), default=30, show_default=True, help="Steps timed of each."
)
warmup_option = click.option(
    "--warmup", type=click.IntRange(0), default=3, show_default=True, help="Steps not timed."
)


def results_option(default: Path | None = None) -> Callable[[Any], Any]:
    """The file that records are appended to; one that holds something else is refused."""

    def check(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
        if path is not None:
            read_records(path)
        return path

    return click.option(
        "--results",
        type=FILE,
        default=default,
        show_default=default is not None,
        callback=check,
        help="Append what was measured to this file, as lines of JSON.",
    )


def methods_option(default: str) -> Callable[[Any], Any]:
    """Comma-separated methods."""
    return click.option(
        "--methods", default=default, show_default=True, help="Comma-separated methods."
    )


def threads_option(default: str) -> Callable[[Any], Any]:
    """Comma-separated sizes of the thread pools."""
    return click.option(
        "--threads", default=default, show_default=True, help="Comma-separated thread counts."
    )


def measured(
    kind: str, results: Path | None, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Measure, and append the record to `results` if there is such a file."""
    load = load_average()
    record = stamped(kind, command_line(), load, measure())
    if results is not None:
        append_record(results, record)
    return record


def refuse_given(reason: str, *names: str) -> None:
    """Refuse options that would be ignored.

    Raises:
        ExportError: one of these was given.
    """
    for option in _given():
        if option.name in names:
            raise ExportError(f"{option.opts[0]}: {reason}")


def command_line() -> str:
    """The running command as one types it, without what concerns this machine alone."""
    context = click.get_current_context()
    words = ["effine", *context.command_path.split()[1:]]
    for option in _given():
        name = str(option.name)
        if name not in _OF_THIS_MACHINE:
            value = context.params[name]
            for one in value if isinstance(value, tuple) else (value,):
                words += [option.opts[0]] if one is True else [option.opts[0], _shown(one)]
    return shlex.join(words)


def words_of(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def methods_of(text: str) -> list[str]:
    """Names of methods, each once.

    Raises:
        ExportError: one is unknown.
    """
    from effine.export.methods import make_method

    return [make_method(word).name for word in dict.fromkeys(words_of(text))]


def precisions_of(text: str) -> list[str]:
    """Precisions of frozen weights.

    Raises:
        ExportError: one is unknown, or none is there.
    """
    words = words_of(text)
    if not words or not set(words) <= set(PRECISIONS):
        raise ExportError(f"--precisions {text}: choose from {', '.join(PRECISIONS)}")
    return words


def numbers_of(text: str, least: int) -> list[int]:
    """Whole numbers, `least` or more each.

    Raises:
        ExportError: something else is in the list, or nothing.
    """
    words = words_of(text)
    if not words or not all(word.isdecimal() and int(word) >= least for word in words):
        raise ExportError(f"'{text}': expected whole numbers from {least}, separated by commas")
    return [int(word) for word in words]


def _given() -> list[click.Parameter]:
    """The running command's options that were typed."""
    context = click.get_current_context()
    return [
        option
        for option in context.command.params
        if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    ]


def _shown(value: Any) -> str:
    """A path by its last two names, so that a record doesn't tell where a machine keeps things."""
    if isinstance(value, Path):
        return str(Path(*value.parts[-2:]) if value.suffix else Path(value.name))
    text = str(value)
    return Path(text).name if Path(text).is_absolute() else text
