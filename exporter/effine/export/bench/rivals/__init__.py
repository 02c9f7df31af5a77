"""Rivals: one file per family; `RIVALS` holds them by name."""

from __future__ import annotations

from collections.abc import Iterable

from effine.export.bench.rivals.case import Rival
from effine.export.bench.rivals.executorch import EXECUTORCH, EXECUTORCH_XNNPACK
from effine.export.bench.rivals.ort import ORT, ORT_FULL
from effine.export.bench.rivals.pytorch import COMPILE, EAGER, FULL
from effine.export.errors import ExportError

RIVALS = {
    rival.name: rival
    for rival in (EAGER, FULL, COMPILE, ORT, ORT_FULL, EXECUTORCH, EXECUTORCH_XNNPACK)
}


def find_rivals(names: Iterable[str]) -> list[Rival]:
    """Rivals by name, each once.

    Raises:
        ExportError: a name is unknown.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in RIVALS:
            raise ExportError(f"--rivals {name}: not a rival; known: {', '.join(RIVALS)}")
    return [RIVALS[name] for name in chosen]
