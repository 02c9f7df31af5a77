"""ONNX programs: they train as PyTorch and ExecuTorch do, and nothing else changes."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from artifacts import Exported, intents
from commands import good, refused, write
from effine.export.capture import capture
from effine.export.errors import ExportError
from effine.export.lowering import onnx as lowering
from effine.export.lowering.target import FrozenWeights
from effine.export.methods import known_methods
from effine.runtime.artifact import Artifact
from effine.runtime.checkpoint import Checkpoint
from effine.runtime.engines import make_engine
from effine.runtime.errors import ArtifactError, EngineError
from effine.runtime.feature_cache import cache_key
from effine.runtime.parity import check_engine
from effine.runtime.trainer import Trainer

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the programs")

BESIDE_THE_COVERING_SET = [
    ("lora", "bert", "pair", "fp32", 1),
    ("head", "bert", "regression", "fp32", 2),
    ("adapter", "bert", "classification", "int8", 1),
]
ACCUMULATED = [
    pytest.param(name, "bert", "multilabel", "fp32", 2, marks=pytest.mark.matrix)
    for name in known_methods()
]
FAST = {"head_rate": 0.05, "epochs": 4, "seed": 3}


@pytest.fixture
def exported(artifact: Exported) -> Artifact:
    return artifact("adapter", target="onnx")


@pytest.mark.parametrize(
    ("method", "architecture", "task", "precision", "accumulate"),
    [*BESIDE_THE_COVERING_SET, *ACCUMULATED],
)
def test_stock_onnx_runtime_trains_as_pytorch_does(
    artifact: Exported,
    method: str,
    architecture: str,
    task: str,
    precision: str,
    accumulate: int,
) -> None:
    made = artifact(method, architecture, task, precision, accumulate, target="onnx")
    report = check_engine(made, make_engine(made, threads=1))
    assert report.passed, [check for check in report.checks if not check.passed]
    names = {check.name for check in report.checks}
    assert {"gradients", "loss", "resume is bit-exact"} < names
    assert ("accumulated: loss" in names) == (accumulate > 1)


def test_both_targets_end_alike_and_share_checkpoints(
    artifact: Exported, exported: Artifact, tmp_path: Path
) -> None:
    artifacts = {"onnx": exported, "xnnpack": artifact("adapter")}
    trainers = {name: Trainer(made, threads=1) for name, made in artifacts.items()}
    reports = {name: trainer.fit(intents(), **FAST) for name, trainer in trainers.items()}
    losses = {name: [e.loss for e in report.epochs] for name, report in reports.items()}
    assert losses["onnx"] == pytest.approx(losses["xnnpack"], rel=1e-3)
    assert losses["onnx"][-1] < losses["onnx"][0]
    assert len({made.manifest.state_id for made in artifacts.values()}) == 1
    assert len({cache_key(made, "fp32") for made in artifacts.values()}) == 2

    texts = [row["text"] for row in intents(3)]
    for one, other in (("onnx", "xnnpack"), ("xnnpack", "onnx")):
        trainers[one].save(tmp_path / f"{one}.ckpt")
        moved = Trainer(artifacts[other], threads=1)
        moved.load(tmp_path / f"{one}.ckpt")
        for mine, theirs in zip(moved.predict(texts), trainers[one].predict(texts), strict=True):
            assert mine.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)


def test_cached_features_train_alike(exported: Artifact, tmp_path: Path) -> None:
    ends = []
    for cache in (False, tmp_path / "features", tmp_path / "features"):
        trainer = Trainer(exported, threads=1, cache=cache)
        trainer.fit(intents(), epochs=2)
        ends.append({name: array.tobytes() for name, array in trainer.state.items()})
    assert ends[0] == ends[1] == ends[2]


def test_programs_are_standard_and_share_one_weight_file(exported: Artifact) -> None:
    manifest = exported.manifest
    assert manifest.target.name == "onnx"
    assert manifest.target.opset == lowering.OPSET
    assert manifest.target.version == onnx.__version__
    places: dict[str, tuple[int, int]] = {}
    for program in manifest.programs.values():
        path = exported.file(program.file)
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [
            ("", lowering.OPSET)
        ]
        assert not model.functions and {node.domain for node in model.graph.node} == {""}
        (signature,) = program.methods.values()
        assert [entry.name for entry in model.graph.input] == [
            entry.name for entry in signature.inputs
        ]
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                where = {entry.key: entry.value for entry in tensor.external_data}
                place = int(where["offset"]), int(where["length"])
                assert where["location"] == "backbone.data"
                assert places.setdefault(tensor.name, place) == place
            else:
                assert tensor.ByteSize() < 4096, tensor.name
    used = sorted(places.values())
    gaps = [after - before - size for (before, size), (after, _) in itertools.pairwise(used)]
    assert all(0 <= gap < 4096 for gap in gaps)
    assert sum(used[-1]) == manifest.files["backbone.data"].size


@pytest.mark.parametrize("name", ["backbone.data", "train_b4_s16.onnx"])
def test_damage_is_refused_by_name(exported: Artifact, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged.effine"
    shutil.copytree(exported.path, folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: damaged"):
        Artifact.open(folder)


def test_a_program_that_onnx_runtime_refuses_is_named(exported: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "swapped.effine"
    shutil.copytree(exported.path, folder)
    opened = Artifact.open(folder)
    name, method = opened.manifest.predict_method(1, 16)
    inputs = {entry.name: np.ones(entry.shape, entry.dtype) for entry in method.inputs}
    (folder / f"{name}.onnx").write_bytes(b"no program")
    with pytest.raises(EngineError, match=f"{name}.onnx: can't be loaded"):
        make_engine(opened, threads=1).run(name, inputs)
    with pytest.raises(EngineError, match="is missing"):
        make_engine(opened, threads=1).run(name, {})


def test_a_missing_onnx_runtime_is_named(
    exported: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "effine.runtime.engines.onnx", raising=False)
    message = refused("parity", exported.path)
    assert "need ONNX Runtime" in message and message.endswith("pip install onnxruntime")


def test_what_only_executorch_does_is_refused(
    exported: Artifact, tiny: dict[str, Path], tmp_path: Path
) -> None:
    for engine in ("native", "arm64", "jvm"):
        message = refused("parity", exported.path, "--on", f"python,{engine}")
        assert f"--on {engine}: runs ExecuTorch programs" in message
    assert "--ops times ExecuTorch programs" in refused("inspect", exported.path, "--ops")
    command = ("export", "--model", tiny["bert"], "--out", tmp_path / "x.effine")
    assert "known: xnnpack, onnx" in refused(*command, "--target", "abacus")
    onnx_target = (*command, "--target", "onnx")
    assert "no product with 4-bit" in refused(*onnx_target, "--backbone-precision", "int4")
    assert "--recompute: ONNX Runtime merges" in refused(*onnx_target, "--recompute")
    assert "ExecuTorch's runner" in refused(*onnx_target, "--max-memory", "100MB")
    assert list(tmp_path.iterdir()) == []


def test_commands_take_an_onnx_artifact(tiny: dict[str, Path], tmp_path: Path) -> None:
    data, made = write(tmp_path / "train.jsonl", intents()), tmp_path / "head.effine"
    shown = good(
        *("export", "--method", "head", "--model", tiny["bert"], "--data", data, "--seq", "16"),
        *("--out", made, "--target", "onnx"),
    )
    assert "for onnx" in shown and "MB," in shown
    manifest = json.loads(good("inspect", made, "--json"))
    assert manifest["target"]["name"] == "onnx" and manifest["memory"]["peak"] == 0
    shown = good("inspect", made)
    assert f"opset {lowering.OPSET}" in shown and "memory:" not in shown
    good("parity", made, "--threads", 1)
    checkpoint = tmp_path / "head.ckpt"
    good("train", made, "--data", data, "--out", checkpoint, "--epochs", 2, "--threads", 1)
    label, share = good("predict", made, "lamp on", "--checkpoint", checkpoint).split()[:2]
    assert label in {"lamp", "music", "alarm"} and 0.3 < float(share) <= 1.0
    out = tmp_path / "weights"
    command = ("extract", checkpoint, "--artifact", made, "--model", tiny["bert"], "--out", out)
    assert "logits after reload equal" in good(*command)
    saved = Checkpoint.load(checkpoint, Artifact.open(made).manifest)
    assert saved.step == 2 * 3


def run_onnx(function: Any, inputs: dict[str, torch.Tensor], folder: Path) -> list[np.ndarray]:
    captured = capture(function, inputs, {})
    lowered = lowering.lower("train", {"one": captured}, FrozenWeights(frozenset()))
    for name, content in lowering.link([lowered]).items():
        (folder / name).write_bytes(content)
    session = onnxruntime.InferenceSession(folder / "one.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {name: inputs[name].numpy() for name in captured.inputs})


def test_operators_give_what_torch_gives(tmp_path: Path) -> None:
    def function(inputs: dict[str, torch.Tensor], _: dict[str, torch.Tensor]) -> Any:
        x, small, ids = inputs["x"], inputs["small"], inputs["ids"]
        return {
            "expm1": torch.expm1(small),
            "pad": torch.ops.aten.constant_pad_nd(x, [1, 0, -1, 2], 3.0),
            "cat": torch.cat([x, x * 2], 1),
            "positions": torch.cumsum(ids != 1, 1) * (ids != 1) + 1,
            "slice": x[:, 1:-1, ::2],
            "select": x[:, -1],
            "clamp": x.clamp(max=0.5) + x.clamp(min=-0.5),
            "sum": x.sum((0, 2)) + x.sum(1, keepdim=True).sum(),
            "weight": x[0].t() @ x[1],
            "softplus": torch.nn.functional.softplus(x),
            "power": small.abs().pow(1.5),
            "ratio": ids / 3,
            "at_least": (ids >= 5).to(torch.float32),
            "below": (x < 0).to(torch.float32),
        }

    torch.manual_seed(0)
    inputs = {
        "x": torch.randn(2, 5, 6),
        "small": torch.tensor([-30.0, -1.0, -1e-3, -1e-6, 0.0, 1e-6, 2.0]),
        "ids": torch.tensor([[5, 1, 7, 7, 1], [1, 2, 3, 1, 1]]),
    }
    expected = function(inputs, {})
    results = run_onnx(function, inputs, tmp_path)
    for (name, value), result in zip(expected.items(), results, strict=True):
        assert result.dtype == value.numpy().dtype and result.shape == value.shape, name
        assert torch.allclose(torch.from_numpy(result), value, rtol=1e-5, atol=1e-12), name


def test_an_operator_without_onnx_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"aten\.sin\.default can't be written"):
        run_onnx(lambda given, _: {"y": given["x"].sin()}, {"x": torch.ones(2)}, tmp_path)
