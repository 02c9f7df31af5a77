"""`effine bench tasks`: what one more task over the same backbone takes in the native runner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effine.export.bench.memory import example
from effine.runtime.artifact import Artifact
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.tokens import write_tokens

_TEXTS = 8
_FIGURES = re.compile(r"resident memory: (\d+) bytes\npeak memory: (\d+) bytes")


def bench_tasks(artifacts: Sequence[Artifact], runner: Runner) -> dict[str, Any]:
    """Predict with the first artifact, then with the second beside it, and so on.

    Args:
        artifacts: of the same backbone, each for a task of its own.

    Returns:
        For each of `tasks`, in bytes, the `resident` memory after its predictions and the
        `peak` up to then.

    Raises:
        EngineError: the runner fails, or the system doesn't tell the memory of a process.
    """
    words: list[str | Path] = []
    with TemporaryDirectory(prefix="effine-") as folder:
        for artifact in artifacts:
            tokens, learned, logits = (
                Path(folder, f"{artifact.manifest.method_info.name}.{kind}")
                for kind in ("tokens", "ckpt", "logits")
            )
            seq = artifact.manifest.shapes.seqs[-1]
            write_tokens(tokens, artifact, [example(artifact, seq, i) for i in range(_TEXTS)])
            options = ("--out", learned, "--epochs", "1", "--threads", "1")
            runner.run("train", artifact.path, "--data", tokens, *options)
            words += [artifact.path, learned, tokens, logits]
        printed = runner.run("predict", *words, "--threads", "1")
    found = _FIGURES.findall(printed)
    if len(found) != len(artifacts):
        raise EngineError("this system doesn't tell the memory of a process")
    manifest = artifacts[0].manifest
    return {
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "seqs": list(manifest.shapes.seqs),
        "tasks": [
            {
                "method": artifact.manifest.method_info.name,
                "resident": int(resident),
                "peak": int(peak),
            }
            for artifact, (resident, peak) in zip(artifacts, found, strict=True)
        ],
    }
