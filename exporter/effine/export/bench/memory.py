"""`effine bench memory`: what training takes in the native runner, predicted, and in PyTorch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from effine.export.bench.process import forget_peak, in_fresh_process, peak_memory
from effine.export.bench.rivals.case import full_batch
from effine.export.bench.rivals.network import descend, rival_network, torch_optimizer
from effine.runtime.artifact import Artifact
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.tokens import write_tokens

RIVALS = ("eager", "full")
_STEPS = 3


def bench_memory(
    artifact: Artifact, source: str, runner: Runner, rivals: Sequence[str] = RIVALS
) -> dict[str, Any]:
    """Peak memory of a few training steps at every shape.

    Args:
        source: the backbone as given at export.

    Returns:
        `peak`, the runner's largest resident memory, beside `predicted` by the manifest;
        `rivals`, by how much PyTorch grows in the same steps at the longest sequence, on
        one thread: in eager with the same method, and with every weight trained.
    """
    manifest = artifact.manifest
    return {
        "method": manifest.method_info.name,
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "batch": manifest.shapes.batch,
        "seqs": list(manifest.shapes.seqs),
        "recompute": manifest.memory.recompute,
        "peak": native_peak(artifact, runner),
        "predicted": manifest.memory.peak,
        "rivals": {name: in_fresh_process(_growth, artifact.path, source, name) for name in rivals},
    }


def native_peak(artifact: Artifact, runner: Runner) -> int:
    """Train in the runner on batches of each exported length; its peak in bytes.

    Raises:
        EngineError: the runner fails, or the system doesn't tell the peak.
    """
    manifest = artifact.manifest
    rows = [
        example(artifact, seq, index)
        for seq in manifest.shapes.seqs
        for index in range(_STEPS * manifest.shapes.batch)
    ]
    with TemporaryDirectory(prefix="effine-") as folder:
        tokens = Path(folder, "data.tokens")
        write_tokens(tokens, artifact, rows)
        options = ("--out", Path(folder, "run.ckpt"), "--epochs", "1", "--threads", "1")
        printed = runner.run("train", artifact.path, "--data", tokens, *options)
    found = re.search(r"peak memory: (\d+) bytes", printed)
    if found is None:
        raise EngineError("this system doesn't tell the peak memory of a process")
    return int(found[1])


def example(artifact: Artifact, seq: int, index: int) -> dict[str, Any]:
    """An example of `seq` tokens: each letter is a token, and two mark begin and end."""
    task = artifact.manifest.task
    text = " ".join("abcdefgh"[(index + place) % 8] for place in range(seq - 2))
    if task.name == "regression":
        return {"text": text, "score": float(index % 5)}
    return {"text": text, "label": task.labels[index % len(task.labels)]}


def _growth(path: Path, source: str, rival: str) -> int:
    """Bytes by which PyTorch's peak exceeds its memory after importing."""
    torch.set_num_threads(1)
    imported = forget_peak()
    artifact = Artifact.open(path)
    network = rival_network(artifact, source, rival)
    manifest = artifact.manifest
    optimizer = torch_optimizer(network.named_parameters(), manifest, fused=True)
    tokens, labels = full_batch(artifact, manifest.shapes.seqs[-1]).tensors()
    forget_peak()
    for _ in range(_STEPS):
        rates = {"pieces": manifest.recipe.piece_rate, "head": manifest.recipe.head_rate}
        descend(optimizer, network.loss(tokens, labels), rates, manifest.optimizer.clip_norm)
    return peak_memory() - imported
