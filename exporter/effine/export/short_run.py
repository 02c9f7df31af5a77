"""A golden run that fits into an app, for a self-test on the phone.

A run that takes too much room is recorded anew by the Python engine, which the artifact's parity
report vouches for. It starts from the initial parameters instead of storing others, has as many
of the golden run's batches as fit, and keeps a few entries of each tensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effine.export.errors import ExportError
from effine.export.golden import sampled
from effine.runtime.artifact import GOLDEN, INITIAL, Artifact, write_artifact
from effine.runtime.engines import Arrays, make_engine
from effine.runtime.replay import replay
from effine.runtime.tensors import write_tensors

LIMIT = 2_000_000
SAMPLES = 64


def shorten(folder: Path, limit: int = LIMIT) -> None:
    """Make sure that an artifact's golden run takes at most `limit` bytes; renews the manifest.

    Raises:
        ExportError: it can't be that short.
        EngineError: the run fails.
    """
    artifact = Artifact.open(folder)
    if artifact.manifest.files[GOLDEN].size <= limit:
        return
    golden, metadata = artifact.golden_with_metadata()
    inputs = _inputs(golden, limit // 2, whole=bool(artifact.manifest.phases))
    metadata |= {"start": INITIAL, "steps": str(len(inputs["loss"])), "ties": "0"}
    _write(folder, inputs, metadata, artifact)
    artifact = Artifact.open(folder)
    result = replay(artifact, make_engine(artifact))
    outputs = {name: array for name, array in result.items() if ".features." not in f".{name}"}
    few = sampled(outputs, np.random.default_rng(0), above=SAMPLES, samples=SAMPLES)
    _write(folder, inputs | few, metadata, artifact)
    size = (folder / GOLDEN).stat().st_size
    if size > limit:
        raise ExportError(
            f"{folder.name}: its golden run takes {size} bytes, and an app gets at most {limit}; "
            "export it with a smaller --batch or shorter --seq"
        )


def _inputs(golden: Arrays, room: int, whole: bool) -> Arrays:
    """What the steps take, for as many as there is room; all if each phase must be reached."""
    steps = len(golden["loss"])
    sizes = [
        sum(array.nbytes for name, array in golden.items() if name.startswith(f"batch.{step}."))
        for step in range(steps)
    ]
    fitting = steps if whole else max(1, min(steps, room // max(sizes)))
    batches = tuple(f"batch.{i}." for i in range(fitting))
    kept = {
        name: array for name, array in golden.items() if name.startswith((*batches, "indices."))
    }
    return kept | {"decay_rate": golden["decay_rate"], "loss": golden["loss"][:fitting]}


def _write(folder: Path, arrays: Arrays, metadata: dict[str, str], artifact: Artifact) -> None:
    write_tensors(folder / GOLDEN, arrays, metadata)
    write_artifact(folder, artifact.manifest)
