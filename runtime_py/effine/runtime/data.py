"""Examples from CSV, TSV and JSONL files or from memory, checked before anything trains on them.

Which columns a task reads is said in its file (`effine.runtime.tasks`); others are ignored.
A list is, in CSV and TSV, one string: labels with `|` between them (`billing|urgent`, an empty
string where no label applies), words and tags with spaces.
Files are UTF-8, with or without a byte order mark; blank lines are skipped. CSV and TSV have a
header line and quote fields by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, Row, shown
from effine.runtime.rows import file_rows, read_text
from effine.runtime.tasks import Task, find_task

Source = str | Path | Sequence[Example | Mapping[str, object] | str | Sequence[str]]


def as_examples(source: Source, task: str, labelled: bool = True) -> list[Example]:
    """Read a file, or check examples in memory.

    Args:
        source: a path, or a sequence of mappings with the columns of a file, of
            examples, or (unlabelled only) of texts; for token-classification also of
            lists of words.
        task: a task's name.
        labelled: False ignores labels, scores and the like.

    Raises:
        DataError: the data can't be used; the message names the line or index.
    """
    if isinstance(source, str | Path):
        return load_examples(source, task, labelled)
    chosen = find_task(task)
    rows = (_memory_row(item, index, chosen, labelled) for index, item in enumerate(source))
    return _checked(rows, chosen, labelled, "the data")


def load_examples(path: str | Path, task: str, labelled: bool = True) -> list[Example]:
    """Read a CSV, TSV or JSONL file, chosen by its suffix; see `as_examples`.

    Raises:
        DataError: the file can't be used; the message names the line.
    """
    chosen = find_task(task)
    rows = file_rows(Path(path), chosen.columns(labelled))
    return _checked(rows, chosen, labelled, str(path))


def read_labels(path: str | Path) -> list[str]:
    """Read the labels of a file with one label a line, in its order.

    Raises:
        DataError: a line is blank or repeated, or the file can't be read.
    """
    lines = read_text(Path(path)).removesuffix("\n").split("\n")
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        label = line.removesuffix("\r")
        where = f"{path}, line {number}"
        if not label.strip():
            raise DataError(f"{where}: the line is blank; remove it or write a label there")
        if label in first:
            raise DataError(
                f"{where}: label {shown(label)} is on line {first[label]} already; remove one"
            )
        first[label] = number
    return list(first)


def _memory_row(item: object, index: int, task: Task, labelled: bool) -> Row:
    where = f"data[{index}]"
    if isinstance(item, Mapping):
        return Row(where, item)
    if isinstance(item, Example):
        given = {name: value for name, value in task.row(item).items() if value is not None}
        return Row(item.origin or where, given)
    bare = None if labelled else task.bare_row(item)
    if bare is None:
        raise DataError(
            f"{where}: a {type(item).__name__} where a mapping is needed; give {task.hint}"
        )
    return Row(where, bare)


def _checked(rows: Iterable[Row], task: Task, labelled: bool, source: str) -> list[Example]:
    examples = [_example(row, task, labelled) for row in rows]
    if not examples:
        raise DataError(f"{source}: holds no examples; add at least one")
    for example in examples:
        if (example.text_b is None) != (examples[0].text_b is None):
            raise DataError(
                f"{example.origin}: {'no' if example.text_b is None else 'a'} text_b, unlike "
                f"the examples before; give it for every example or for none"
            )
    return examples


def _example(row: Row, task: Task, labelled: bool) -> Example:
    row.check_columns(task.columns(labelled))
    return task.read(row, labelled)
