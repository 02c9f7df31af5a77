"""Takes training steps with ONNX Runtime, in an environment without effine.

`python ort_worker.py FOLDER` trains FOLDER/model.onnx on FOLDER/batch.npz as job.json
says. Each line on stdin asks for a step; the answer is a line of JSON with the loss and
the seconds, or with an error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# It imports torch, which nothing here needs.
sys.modules["onnxruntime.training.optim"] = ModuleType("onnxruntime.training.optim")


def prepare(folder: Path) -> Callable[[], float]:
    """Generate the training artifacts; returns a function that takes one step."""
    import numpy as np
    import onnx
    from onnxruntime import SessionOptions
    from onnxruntime.training import api, artifacts, onnxblock

    job = json.loads((folder / "job.json").read_text())
    model = onnx.load(str(folder / "model.onnx"))
    weights = {weight.name for weight in model.graph.initializer}
    missing = set(job["trained"]) - weights
    if missing:
        raise ValueError(f"the ONNX model lacks {', '.join(sorted(missing))}")
    artifacts.generate_artifacts(
        model,
        requires_grad=job["trained"],
        frozen_params=sorted(weights - set(job["trained"])),
        loss=artifacts.LossType[job["loss"]],
        optimizer=onnxblock.optim.AdamW(eps=1e-8, weight_decay=0.01),
        artifact_directory=str(folder),
    )
    options = SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    state = api.CheckpointState.load_checkpoint(str(folder / "checkpoint"))
    module = api.Module(str(folder / "training_model.onnx"), state, session_options=options)
    optimizer = api.Optimizer(str(folder / "optimizer_model.onnx"), module)
    optimizer.set_learning_rate(job["rate"])
    module.train()
    with np.load(folder / "batch.npz") as arrays:
        inputs = {name: arrays[name] for name in job["inputs"]}
    batch = [inputs[name] for name in module.input_names()]

    def step() -> float:
        loss = module(*batch)
        optimizer.step()
        module.lazy_reset_grad()
        return float(loss)

    return step


def main() -> None:
    """Answer requests until stdin ends."""
    try:
        step = prepare(Path(sys.argv[1]))
        for _ in sys.stdin:
            start = time.perf_counter()
            loss = step()
            print(json.dumps({"loss": loss, "seconds": time.perf_counter() - start}), flush=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(json.dumps({"error": lines[0]}), flush=True)


if __name__ == "__main__":
    main()
