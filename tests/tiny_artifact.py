"""A small artifact of dummy bytes, for tests that need no program."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effine.runtime import manifest_fields as fields
from effine.runtime.artifact import write_artifact
from effine.runtime.manifest import Manifest
from effine.runtime.phases import StateTensor
from effine.runtime.tensors import write_tensors

PARAMETERS = {"piece.weight": (2, 3), "piece.bias": (3,), "head.bias": (4,)}


def make_manifest(**changes: object) -> Manifest:
    """A manifest of a made-up artifact with three labels, one spare row and lengths 16 and 32."""
    state = tuple(
        StateTensor(
            name + suffix,
            shape,
            "float32",
            "moment" if suffix else "parameter",
            "head" if name.startswith("head") else "pieces",
        )
        for suffix in ("", ".m", ".v")
        for name, shape in PARAMETERS.items()
    )
    parts: dict[str, object] = {
        "effine": "0.1.0",
        "target": fields.TargetInfo("xnnpack", "1.5.1"),
        "torch": "2.13.0",
        "name": "größe",
        "method": fields.MethodInfo("adapter", {"size": 16, "scale": 0.5, "names": ("a",)}, 2, 1),
        "backbone": fields.BackboneInfo("tiny", "bert", 2, 8, "mean", "fp32", "ab" * 32),
        "task": fields.TaskInfo(
            "classification", ("ja", "nein", "weiß nicht"), 1, "accuracy", False
        ),
        "tokens": fields.TokensInfo(("input_ids", "attention_mask"), 0, 32),
        "optimizer": fields.OptimizerInfo("adamw", 0, 0.0, ("m", "v"), 10),
        "recipe": fields.Recipe(1e-3, 1e-2, 3, "linear", 0.1),
        "shapes": fields.Shapes(4, (16, 32)),
        "programs": make_programs(state),
        "state": state,
        "tolerances": fields.Tolerances(),
        "memory": fields.MemoryInfo(4096, 2048, 1024, 512, 12_000_000),
        "frozen_head": fields.FrozenHead(0.75, "accuracy", "dev"),
    }
    return Manifest.describe(**{**parts, **changes})


def make_programs(state: tuple[StateTensor, ...]) -> dict[str, fields.Program]:
    """Three programs; train and predict exist for the longest sequence only."""
    spec = fields.TensorSpec
    backbone = {
        f"backbone_b{b}_s{s}": fields.ProgramMethod(
            (spec("input_ids", "token", (b, s), "int64"),),
            (spec("hidden", "feature", (b, 8), "float32"),),
        )
        for b in (1, 4)
        for s in (16, 32)
    }
    update = tuple(spec(e.name, "update", e.shape, "float32") for e in state)
    train = fields.ProgramMethod(
        (spec("hidden", "feature", (4, 8), "float32"), *update),
        (spec("loss", "loss", (1,), "float32"), *update),
    )
    predict = {
        f"predict_b{b}_s32": fields.ProgramMethod(
            (spec("hidden", "feature", (b, 8), "float32"),),
            (spec("logits", "logits", (b, 4), "float32"),),
        )
        for b in (1, 4)
    }
    return {
        "backbone": fields.Program("backbone.pte", backbone),
        "train": fields.Program("train.pte", {"train_b4_s32": train}),
        "predict": fields.Program("predict.pte", predict),
    }


def make_artifact(folder: Path) -> Path:
    """Write the artifact's directory, complete; returns it."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("backbone.ptd", "backbone.pte", "train.pte", "predict.pte", "tokenizer.json"):
        (folder / name).write_bytes(random.bytes(300))
    params = {n: random.normal(size=s).astype(np.float32) for n, s in PARAMETERS.items()}
    write_tensors(folder / "state.safetensors", params, {"format": "effine state"})
    write_tensors(folder / "golden.safetensors", {"loss": np.ones(20, np.float32)}, {"ties": "0"})
    write_artifact(folder, make_manifest())
    return folder
