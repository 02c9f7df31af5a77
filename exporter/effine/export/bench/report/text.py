"""Markdown of records: tables, the machine, the commands."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from effine.export.bench.records import Record


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def newest(records: Sequence[Record], key: Callable[[Record], Hashable]) -> list[Record]:
    """The last record of each key, in the order in which keys first appear."""
    return list({key(record): record for record in records}.values())


def machine_line(records: Sequence[Record]) -> str:
    """What the records were measured on, when, and under which load; empty if none tells."""
    told = [record for record in records if "machine" in record]
    if not told:
        return ""
    machines = []
    for record in told:
        one = record["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        vectors = f" ({', '.join(one['vectors'])})" if one.get("vectors") else ""
        machines.append(
            f"{one['cpu']}{vectors}, {_counted(one['cores'], 'core')}, {one['system']}; "
            f"Python {one['python']}, {versions}"
        )
    days = sorted(record["date"][:10] for record in told)
    loads = [load for record in told for load in record["load"]]
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return (
        f"Measured on {'; and '.join(dict.fromkeys(machines))}. {when}; load average "
        f"{min(loads):.2f} to {max(loads):.2f}."
    )


def used_commands(records: Sequence[Record]) -> str:
    """The commands that measured the records, each once."""
    commands = dict.fromkeys(record["command"] for record in records if "command" in record)
    return "```\n" + "\n".join(commands) + "\n```" if commands else ""


def subject(record: Record) -> str:
    """Model, method and precision, and whether results are computed again."""
    again = " recomputing" if record.get("recompute") else ""
    return f"{record['model']} {record['method']} {record['precision']}{again}"


def threads(count: int) -> str:
    """How many threads."""
    return _counted(count, "thread")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def spread_cell(values: Mapping[str, Any], form: str) -> str:
    """A median with its quartiles."""
    return f"{values['median']:{form}} ({values['lower']:{form}}-{values['upper']:{form}})"


def megabytes(size: float) -> str:
    """Bytes as megabytes."""
    return f"{size / 1e6:.1f} MB"
