"""ONNX Runtime training as a rival: a process of another Python environment.

Its packages ended at 1.19.2. They need their own environment (`make ort`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from effine.export.bench.rivals.case import (
    RATE,
    Case,
    Rival,
    Turn,
    Unavailable,
    check_losses,
    foreign,
)
from effine.export.bench.rivals.network import Positional, RivalNetwork

OPSET = 14
_WORKER = Path(__file__).with_name("ort_worker.py")


def _trained_by_ort(
    make_network: Callable[[Case], RivalNetwork],
) -> Callable[[Case], AbstractContextManager[Turn]]:
    @contextmanager
    def start(case: Case) -> Iterator[Turn]:
        if case.ort_python is None:
            raise Unavailable("needs --ort-python, the interpreter that `make ort` makes")
        network = make_network(case)
        with TemporaryDirectory(prefix="effine-") as scratch:
            folder = Path(scratch)
            _write_job(case, network, folder)
            with _worker(case.ort_python, folder) as ask:
                losses = [ask()["loss"], ask()["loss"]]
                trained = [p for p in network.parameters() if p.requires_grad]
                check_losses(case, network, torch.optim.AdamW(trained, RATE), losses)
                yield lambda: float(ask()["seconds"])

    return start


def _write_job(case: Case, network: RivalNetwork, folder: Path) -> None:
    """The network as ONNX, the batch, and what to train.

    From opset 17 on LayerNormalization is one operator, whose gradient ORT 1.19.2 can't build.
    """
    module = Positional(network, case.batch.tokens)
    tokens, _ = case.batch.tensors()
    with foreign("torch.onnx"):
        torch.onnx.export(
            module,
            tuple(tokens.values()),
            folder / "model.onnx",
            input_names=list(tokens),
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    scores = case.artifact.manifest.task.name == "regression"
    labels = case.batch.labels[:, None] if scores else case.batch.labels
    arrays: dict[str, Any] = {"labels": labels, **case.batch.tokens}
    np.savez(folder / "batch.npz", **arrays)
    job = {
        "inputs": [*tokens, "labels"],
        "trained": [name for name, p in module.named_parameters() if p.requires_grad],
        "loss": "MSELoss" if scores else "CrossEntropyLoss",
        "rate": RATE,
        "threads": case.threads,
    }
    (folder / "job.json").write_text(json.dumps(job))


@contextmanager
def _worker(python: Path, folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """A running worker; a call asks it for one step.

    Raises:
        Unavailable: it can't be started, or stopped with an error.
    """
    with open(folder / "errors.txt", "w") as errors, foreign(str(python)):
        process = subprocess.Popen(
            [python, "-I", _WORKER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            bufsize=1,
        )

    def ask() -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        with foreign("onnxruntime"):
            process.stdin.write("step\n")
            answer = json.loads(process.stdout.readline() or '{"error": "it stopped"}')
        if "error" in answer:
            raise Unavailable(f"onnxruntime: {answer['error']}")
        return dict(answer)

    with process:
        try:
            yield ask
        finally:
            process.kill()


ORT = Rival("ort", "ONNX Runtime training 1.19.2", "method", _trained_by_ort(Case.network))
ORT_FULL = Rival(
    "ort-full",
    "ONNX Runtime training 1.19.2, full tuning",
    "all",
    _trained_by_ort(Case.full_network),
)
