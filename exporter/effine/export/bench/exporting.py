"""`effine bench export`: what an export costs, by stage, and its peak memory."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effine.export.bench.process import children_peak_memory, in_fresh_process, peak_memory


def bench_export(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Export in a fresh process, as the command does.

    Args:
        settings: of the export.

    Returns:
        Seconds in all and by stage, the first being the start of Python and its
        imports; `peak`, the exporting process's largest resident memory in bytes, and
        `worker_peak`, that of the largest process it lowers programs in.
    """
    start = time.perf_counter()
    result = in_fresh_process(_export, model, settings)
    seconds = time.perf_counter() - start
    started = seconds - sum(result["stages"].values())
    return {
        "method": settings["method"],
        "seconds": seconds,
        **result,
        "stages": {"starting Python": started, **result["stages"]},
    }


def _export(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    from effine.export.cli.common import quiet

    quiet()
    from effine.export.pipeline import export

    started: dict[str, float] = {}
    with TemporaryDirectory(prefix="effine-") as folder:
        artifact = export(
            model,
            out=Path(folder, "measured.effine"),
            progress=lambda stage: started.update({stage: time.perf_counter()}),
            **settings,
        )
        ends = [*started.values(), time.perf_counter()][1:]
    manifest = artifact.manifest
    return {
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "batch": manifest.shapes.batch,
        "seqs": list(manifest.shapes.seqs),
        "stages": {
            stage: end - begin for (stage, begin), end in zip(started.items(), ends, strict=True)
        },
        "peak": peak_memory(),
        "worker_peak": children_peak_memory(),
    }
