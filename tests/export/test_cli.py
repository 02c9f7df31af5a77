"""The commands, through the entry points that people call."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from artifacts import Exported, intents
from commands import good, refused, run, write
from effine.export import parity as parity_module
from effine.runtime.artifact import Artifact
from effine.runtime.checkpoint import Checkpoint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "train.jsonl", intents())


@pytest.fixture
def head(artifact: Exported, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(artifact("head").path, tmp_path / "head.effine"))


def installed(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_the_installed_programs_start() -> None:
    done = subprocess.run([installed("effine-export"), "--help"], capture_output=True, text=True)
    assert (
        done.returncode == 0 and "--method" in done.stdout and "[default: spartan]" in done.stdout
    )
    done = subprocess.run([installed("effine"), "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and "0.1.0" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["export", "train", "predict", "evaluate", "parity", "inspect", "extract", "methods"],
)
def test_every_command_has_help(name: str) -> None:
    assert f"main {name} [OPTIONS]" in good(name, "--help")


def test_from_export_to_evaluation(tiny: dict[str, Path], tmp_path: Path, data: Path) -> None:
    out, dev = tmp_path / "tiny.effine", write(tmp_path / "dev.jsonl", intents(3))
    arguments = ("export", "--model", tiny["distilbert"], "--method", "head", "--data", data)
    settings = ("--seq", "16", "--batch", "4", "--out", out)
    exported = json.loads(good(*arguments, *settings, "--json"))
    assert Path(exported["path"]) == out
    size = sum(file.stat().st_size for file in out.iterdir() if file.name != "manifest.json")
    assert exported["bytes"] == size
    assert [p.name for p in tmp_path.glob(".*")] == []

    assert good("inspect", out, "--json").encode() == (out / "manifest.json").read_bytes()
    shown = good("inspect", out)
    assert "head" in shown and "lamp" in shown

    before = (out / "manifest.json").read_bytes()
    assert "tiny.effine: exists already" in refused(*arguments, *settings)
    assert (out / "manifest.json").read_bytes() == before

    picture = tmp_path / "curve.png"
    learned = good(
        *("train", out, "--data", data, "--eval", dev, "--epochs", 40, "--head-rate", 0.1),
        *("--plot", picture, "--threads", 1),
    )
    checkpoint = tmp_path / "tiny.ckpt"
    assert f"state written to {checkpoint}" in learned and "accuracy: " in learned
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "exists already; pass --resume" in refused("train", out, "--data", data)

    metrics = json.loads(good("evaluate", out, "--data", dev, "--json"))
    assert metrics["accuracy"] >= 0.9
    assert f"accuracy: {metrics['accuracy']:.4f}" in good("evaluate", out, "--data", dev)

    texts = [row["text"] for row in intents()[:3]]
    predictions = json.loads(good("predict", out, *texts, "--json"))
    assert [set(p["probabilities"]) for p in predictions] == [{"alarm", "lamp", "music"}] * 3
    lines = good("predict", out, *texts).splitlines()
    assert [line.split()[0] for line in lines] == [p["label"] for p in predictions]
    assert good("predict", out, "--data", data).count("\n") == len(intents())

    verdict = good("parity", out, "--threads", 1)
    assert verdict.splitlines()[-1] == "passed"
    saved = json.loads((out / "reports" / "parity-python.json").read_text())
    assert saved["passed"] is True
    Artifact.open(out)


def test_the_cache_is_chosen_and_told(head: Path, data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "features"
    common = ("train", head, "--data", data, "--threads", 1, "--epochs", 2)
    common = (*common, "--out", tmp_path / "c", "--force", "--cache", cache)
    first, *_ = good(*common, "--cache-precision", "int8").splitlines()
    assert first.startswith("cache: int8, 0.00 MB for 24 samples, saves ")
    assert first.endswith(" over 2 epochs")
    assert "holds all 24" in good(*common, "--cache-precision", "int8")
    assert 'cache_precision ("int8" there, "fp16" here)' in refused(
        *common, "--resume", "--cache-precision", "fp16"
    )
    cache.unlink()
    report = json.loads(good(*common, "--cache-size", "1kB", "--json"))
    assert 500 < cache.stat().st_size <= 1000 and 0 < report["uncached"] < 24
    for size in ("12MiB", "-1", "MB"):
        assert "is not a size such as 512MB" in refused(*common, "--cache-size", size)
    assert "choose another --cache" in refused(*common, "--cache", data / "features")


def test_resume_and_continue(head: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.ckpt"
    common = ("train", head, "--data", data, "--threads", 1, "--json")
    first = json.loads(good(*common, "--out", out, "--epochs", 2))
    assert first["cache"].startswith("cache: ")
    again = json.loads(good(*common, "--out", out, "--resume"))
    assert again | {"cache": ""} == first | {"cache": ""}
    assert "setting epochs" in refused(*common, "--out", out, "--resume", "--epochs", 3)
    assert "doesn't exist" in refused(*common, "--out", tmp_path / "other.ckpt", "--resume")
    more = tmp_path / "more.ckpt"
    report = json.loads(
        good(*common, "--out", more, "--continue-from", out, "--epochs", 1, "--add-label", "door")
    )
    assert len(report["epochs"]) == 1 < len(first["epochs"])
    saved = Checkpoint.load(more, Artifact.open(head).manifest)
    assert saved.labels == ("alarm", "lamp", "music", "door")
    before = out.read_bytes()
    good(*common, "--out", out, "--epochs", 1, "--force")
    assert out.read_bytes() != before


def trained(exported: Artifact, data: Path, folder: Path) -> Path:
    checkpoint = folder / "run.ckpt"
    good(
        *("train", exported.path, "--data", data, "--out", checkpoint),
        *("--epochs", 2, "--threads", 1),
    )
    return checkpoint


def test_lora_leaves_in_the_form_of_peft(
    artifact: Exported, tiny: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    exported = artifact("lora")
    checkpoint, out = trained(exported, data, tmp_path), tmp_path / "weights"
    command = ("extract", checkpoint, "--artifact", exported.path, "--out", out)
    assert "pass its place as --model" in refused(*command)
    result = json.loads(good(*command, "--model", tiny["bert"], "--json"))
    assert result == {"tensors": len(exported.manifest.parameters), "difference": 0.0}

    golden = exported.golden()
    tokens = {
        name: torch.from_numpy(golden[f"batch.0.{name}"].copy())
        for name in exported.manifest.tokens.inputs
    }
    base = AutoModel.from_pretrained(tiny["bert"], attn_implementation="eager").eval()
    with torch.no_grad():
        untouched = base(**tokens).last_hidden_state.clone()
        states = PeftModel.from_pretrained(base, out).eval()(**tokens).last_hidden_state
    assert float((states - untouched).abs().max()) > 1e-4
    mask = tokens["attention_mask"][..., None].float()
    if exported.manifest.backbone.pooling == "mean":
        pooled = (states * mask).sum(1) / mask.sum(1)
    else:
        pooled = states[:, 0]
    weights = load_file(out / "head.safetensors")
    logits = pooled @ weights["weight"].T + weights["bias"]

    from effine.runtime.engines.executorch import ExecuTorchEngine

    engine = ExecuTorchEngine(exported, threads=1)
    saved = Checkpoint.load(checkpoint, exported.manifest)
    arrays = {name: tensor.numpy() for name, tensor in tokens.items()}
    batch, seq = arrays["input_ids"].shape
    features = engine.run(exported.manifest.backbone_method(batch, seq)[0], arrays)
    name, _ = exported.manifest.predict_method(batch, seq)
    ours = engine.run(name, arrays | features | saved.state)["logits"]
    assert torch.allclose(torch.from_numpy(ours), logits, rtol=1e-3, atol=1e-4)

    assert "isn't empty" in refused(*command)


def test_pieces_leave_as_safetensors(
    artifact: Exported, tiny: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    exported = artifact("spartan")
    checkpoint, out = trained(exported, data, tmp_path), tmp_path / "weights"
    assert "logits after reload equal" in good(
        *("extract", checkpoint, "--artifact", exported.path, "--out", out),
        *("--model", tiny["bert"]),
    )
    saved = Checkpoint.load(checkpoint, exported.manifest)
    pieces = load_file(out / "pieces.safetensors")
    head = {f"head.{name}": tensor for name, tensor in load_file(out / "head.safetensors").items()}
    assert set(pieces) | set(head) == {entry.name for entry in exported.manifest.parameters}
    for name, tensor in (pieces | head).items():
        assert (tensor.numpy() == saved.state[name]).all(), name
    config = json.loads((out / "effine_config.json").read_text())
    assert config["effine_method"] == "spartan" and config["labels"] == ["alarm", "lamp", "music"]


def test_parity_that_fails_is_exit_code_1(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = parity_module.ENGINES["python"]

    def failing(artifact: Artifact, threads: int | None):
        report = real(artifact, threads)
        broken = dataclasses.replace(report.checks[0], passed=False)
        return dataclasses.replace(report, checks=(broken, *report.checks[1:]))

    monkeypatch.setitem(parity_module.ENGINES, "python", failing)
    result = run("parity", head, "--threads", 1)
    assert result.exit_code == 1
    assert "FAIL features" in result.stdout and "FAILED" in result.stdout
    result = run("parity", head, "--threads", 1, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)[0]["passed"] is False
    assert "not an engine; known: python, native" in refused("parity", head, "--on", "abacus")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "magic"), "spartan"),
        (("--task", "poetry"), "classification"),
        (("--method-option", "colour=red"), "colour"),
        (("--method-option", "colour"), "expected NAME=VALUE"),
        (("--seq", "long"), "--seq long"),
        (("--seq", "4096"), "from 4 to"),
        (("--first-layer", "9"), "layer"),
    ],
)
def test_a_wrong_setting_leaves_nothing_behind(
    tiny: dict[str, Path], tmp_path: Path, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    common = ("export", "--model", tiny["bert"], "--data", data, "--out", tmp_path / "x.effine")
    assert message in refused(*common, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_names_are_checked_before_the_backbone_is_loaded(tmp_path: Path) -> None:
    common = ("export", "--model", tmp_path / "nowhere", "--out", tmp_path / "x.effine")
    assert "poetry: not a task; known: classification" in refused(*common, "--task", "poetry")
    assert "magic: not a method; known: adapter" in refused(*common, "--method", "magic")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ('{"text": "a", "label": "b"}\n{"text": \n', "line 2"),
        ('{"text": "a", "topic": "b"}\n', "topic"),
        ('{"text": "a", "label": "b"}\n', "one label only"),
    ],
)
def test_wrong_data_leave_nothing_behind(
    tiny: dict[str, Path], tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text(content)
    out = tmp_path / "x.effine"
    assert message in refused("export", "--model", tiny["bert"], "--data", file, "--out", out)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.jsonl"]


def test_a_csv_without_the_column_lists_those_found(tiny: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text("sentence,label\nhello,a\n")
    message = refused("export", "--model", tiny["bert"], "--data", file)
    assert "text" in message and "sentence" in message and "label" in message


def test_a_model_that_is_not_there_or_not_known(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "x.effine"
    assert "nowhere" in refused("export", "--model", tmp_path / "nowhere", "--out", out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    message = refused("export", "--model", other, "--out", out)
    assert "bert" in message and "distilbert" in message
    assert not out.exists()


def test_a_failure_half_way_leaves_nothing_behind(
    tiny: dict[str, Path], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from effine.export import pipeline
    from effine.export.errors import ExportError

    def broken(*_: object) -> None:
        raise ExportError("the disk is full")

    monkeypatch.setattr(pipeline, "replace_folder", broken)
    out = tmp_path / "x.effine"
    message = refused(
        *("export", "--model", tiny["bert"], "--method", "head", "--data", data),
        *("--seq", "16", "--batch", "4", "--out", out),
    )
    assert message == "the disk is full"
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_an_output_that_cannot_be_made(tiny: dict[str, Path], tmp_path: Path, data: Path) -> None:
    common = ("export", "--model", tiny["bert"], "--data", data, "--out")
    assert "no such directory" in refused(*common, tmp_path / "missing" / "x.effine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is not an artifact" in refused(*common, tmp_path / "mine", "--force")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_checkpoint_that_cannot_be_written(head: Path, data: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    message = refused("train", head, "--data", data, "--out", blocked / "x.ckpt", "--epochs", 1)
    assert str(blocked / "x.ckpt") in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(tiny: dict[str, Path], tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    out = folder / "x.effine"
    assert str(folder) in refused("export", "--model", tiny["bert"], "--data", data, "--out", out)


def test_wrong_training_data(head: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "d.jsonl", [*intents(), {"text": "open it", "label": "door"}])
    message = refused("train", head, "--data", file)
    assert "d.jsonl, line 25" in message and "door" in message and "--spare-labels" in message
    assert "no such file" in refused("train", head, "--data", tmp_path / "none.jsonl")
    assert "give either TEXTS or --data" in refused("predict", head)
    assert not (tmp_path / "head.ckpt").exists()


def test_a_changed_byte_is_refused_with_the_file_s_name(head: Path, data: Path) -> None:
    for file in sorted(head.iterdir()):
        whole = file.read_bytes()
        for position in (0, len(whole) // 2, len(whole) - 2):
            changed = bytearray(whole)
            changed[position] ^= 1
            file.write_bytes(changed)
            assert file.name in refused("inspect", head), position
        file.write_bytes(whole[:-1])
        assert file.name in refused("inspect", head)
        file.unlink()
        assert file.name in refused("predict", head, "hello")
        file.write_bytes(whole)
    (head / "extra.bin").write_bytes(b"x")
    assert "extra.bin" in refused("train", head, "--data", data)
    (head / "extra.bin").unlink()
    good("inspect", head)


def test_methods_are_listed() -> None:
    listed = good("methods")
    assert all(name in listed for name in ("adapter", "bitfit", "head", "lora", "read", "spartan"))
    assert "top_k" in good("methods", "spartan") or "temperature" in good("methods", "spartan")
    assert json.loads(good("methods", "--json"))
    assert "spartan" in refused("methods", "magic")


def test_inspect_lists_what_is_not_delegated(artifact: Exported) -> None:
    path = artifact("spartan").path
    found = json.loads(good("inspect", path, "--ops", "--threads", 1, "--json"))
    assert [entry["method"].split("_")[0] for entry in found] == ["backbone", "train", "predict"]
    for entry in found:
        assert 0 <= entry["outside"] <= 1 and 0 < entry["delegates"] <= 12
        assert sum(op["share"] for op in entry["operators"]) <= entry["outside"] + 0.05
    names = {op["name"] for op in found[1]["operators"]}
    assert "_log_softmax.out" in names and not any("mm" in name for name in names)
    shown = good("inspect", path, "--ops", "--threads", 1)
    assert "train_b4_s16: " in shown and "x embedding.out" in shown
