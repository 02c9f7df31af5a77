"""`effine bench sdk`: an update in the Kotlin SDK beside what its programs alone take."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effine.export.bench.memory import example
from effine.export.bench.timing import milliseconds, ratio, spread
from effine.runtime.artifact import Artifact
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.tokens import write_tokens

_BATCHES = 4


def bench_sdk(
    artifact: Artifact, runner: JvmRunner, *, threads: int, steps: int, warmup: int
) -> dict[str, Any]:
    """Time updates of a run on the longest sequences, with features from the cache.

    Each is followed by its programs alone: the same calls of the runtime with the same buffers,
    in the same JVM, without taking what they return.

    Returns:
        `ms` holds the spread of both sides' milliseconds, `ratio` the update over its programs,
        `heap` the bytes that an update allocates on the heap, `direct` by how many bytes direct
        memory grew over all timed updates, `programs` what an update runs.

    Raises:
        EngineError: the JVM can't be started, or reports an error.
    """
    manifest = artifact.manifest
    seq, batch = manifest.shapes.seqs[-1], manifest.shapes.batch
    with TemporaryDirectory(prefix="effine-") as folder:
        tokens = Path(folder, "data.tokens")
        write_tokens(tokens, artifact, [example(artifact, seq, i) for i in range(_BATCHES * batch)])
        files = ("--data", tokens, "--cache", Path(folder, "features.cache"))
        counts = ("--threads", str(threads), "--steps", str(steps), "--warmup", str(warmup))
        found = json.loads(runner.run("bench", artifact.path, *files, *counts))
    return {
        "method": manifest.method_info.name,
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "batch": batch,
        "seq": seq,
        "threads": threads,
        "steps": steps,
        "ms": {name: spread(milliseconds(found[name])) for name in ("step", "bare")},
        "ratio": ratio(found["step"], found["bare"]),
        **{name: found[name] for name in ("heap", "direct", "programs")},
    }
