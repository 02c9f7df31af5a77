"""Results files: one JSON object a line, each saying what was measured, on what, and when."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from effine.export.errors import ExportError

Record = Mapping[str, Any]
_PACKAGES = ("effine", "executorch", "torch", "transformers")
_CPUINFO = Path("/proc/cpuinfo")
_VECTORS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "asimddp", "i8mm", "sve")


def stamped(kind: str, command: str, load: float, result: Record) -> dict[str, Any]:
    """A result as a record: with its kind, command, machine, date, and the load around it.

    Args:
        command: what a user types to measure it again.
        load: the machine's load average of one minute, before measuring.
    """
    return {
        "kind": kind,
        "command": command,
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load, load_average()],
        **result,
    }


def machine() -> dict[str, Any]:
    """The machine: CPU, cores in use, operating system, and versions.

    `vectors` are those of the CPU's instructions that decide how fast products of 8 bits are; none
    where the system doesn't tell.
    """
    flags = _cpuinfo("flags", "Features").split()
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "vectors": [name for name in _VECTORS if name in flags],
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def load_average() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a results file; none if it doesn't exist, a torn last line is left out.

    Raises:
        ExportError: the file holds something else.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    try:
        records = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        records = [None]
    if not all(isinstance(record, dict) and "kind" in record for record in records):
        raise ExportError(f"--results {path}: holds something else; choose another file")
    return records


def append_record(path: Path, record: Record) -> None:
    """Add a line; what an interrupted writer left of one is dropped."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.truncate(whole)
        file.write(json.dumps(record).encode() + b"\n")


def _cpuinfo(*names: str) -> str:
    """What Linux says of the first core under one of these names; empty elsewhere."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    fields = ((name.strip(), value.strip()) for name, _, value in (x.partition(":") for x in lines))
    return next((value for name, value in fields if name in names), "")
