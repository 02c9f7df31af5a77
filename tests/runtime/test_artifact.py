"""An artifact is refused, naming the file, unless every byte of it is what the exporter wrote."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.codec import seal
from effine.runtime.errors import ArtifactError
from effine.runtime.manifest import Manifest
from effine.runtime.manifest_fields import TargetInfo
from effine.runtime.tensors import read_tensors, write_tensors
from tiny_artifact import PARAMETERS, make_artifact, make_manifest

FILES = (
    "backbone.ptd backbone.pte golden.safetensors manifest.json predict.pte state.safetensors "
    "tokenizer.json train.pte"
).split()


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "tiny.effine")


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_opens(folder: Path, manifest: Manifest) -> None:
    artifact = Artifact.open(str(folder))
    assert sorted([*artifact.manifest.files, "manifest.json"]) == FILES
    assert artifact.manifest.state_id == manifest.state_id
    assert artifact.manifest.files["train.pte"].size == 300
    assert artifact.tokenizer_path == folder / "tokenizer.json"
    assert artifact.file("train.pte") == folder / "train.pte"
    assert list(artifact.golden()) == ["loss"]
    assert artifact.golden_with_metadata()[1] == {"ties": "0"}
    with pytest.raises(ArtifactError, match=r"no other\.pte"):
        artifact.file("other.pte")


def test_initial_state_has_zero_moments_and_is_fresh(folder: Path, manifest: Manifest) -> None:
    artifact = Artifact.open(folder)
    state = artifact.initial_state()
    stored, _ = read_tensors(folder / "state.safetensors")
    assert list(state) == [entry.name for entry in manifest.state]
    for entry in manifest.state:
        expected = stored.get(entry.name, np.zeros(entry.shape, np.float32))
        assert state[entry.name].dtype == np.float32
        assert np.array_equal(state[entry.name], expected)
    state["piece.bias"][:] = 7
    assert np.array_equal(artifact.initial_state()["piece.bias"], stored["piece.bias"])


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    original = path.read_bytes()
    positions = {0, 1, len(original) // 2, len(original) - 2, len(original) - 1}
    positions |= set(np.random.default_rng(1).integers(0, len(original), 20).tolist())
    for position in positions:
        for bit in (0x01, 0x80):
            changed = bytearray(original)
            changed[position] ^= bit
            path.write_bytes(changed)
            assert name in refused(folder)
    path.write_bytes(original)
    Artifact.open(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "longer", "empty", "missing", "linked", "folder"])
def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    if damage in ("missing", "linked", "folder"):
        path.rename(tmp_path / "elsewhere")
    if damage == "linked":
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(
            {"truncated": content[:-1], "longer": content + b" ", "empty": b""}[damage]
        )
    message = refused(folder)
    assert name in message
    if damage == "linked":
        assert "symbolic link" in message


@pytest.mark.parametrize("name", ["extra.bin", ".hidden", "Manifest.json", "report"])
def test_an_additional_entry_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert f"{name}: isn't part of the artifact" in refused(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refused(folder)


def test_reports_and_signature_may_be_added(folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / "parity.json").write_text("anything")
    (folder / "manifest.sig").write_bytes(b"signature")
    Artifact.open(folder)


@pytest.mark.parametrize("name", ["reports", "manifest.sig"])
def test_a_linked_addition_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (folder / name).symlink_to(tmp_path / "target")
    assert name in refused(folder)


def test_not_an_artifact(tmp_path: Path) -> None:
    assert "no such artifact" in refused(tmp_path / "absent")
    assert "has no manifest.json" in refused(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    assert "no such artifact" in refused(tmp_path / "file")


def test_the_manifest_comes_first(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "train.pte").unlink()
    (folder / "manifest.json").write_text(seal(document | {"schema": 3}))
    assert refused(folder) == (
        f"{folder}/manifest.json: schema 3 is newer than this version reads (2); update effine"
    )


@pytest.mark.parametrize("version", ["1.4.0", "1.6.0", "2.5.0", "1.50.0", "1"])
def test_another_executorch(folder: Path, manifest: Manifest, version: str) -> None:
    write_artifact(folder, dataclasses.replace(manifest, target=TargetInfo("xnnpack", version)))
    assert f"made for ExecuTorch {version}" in refused(folder)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"piece.weight": (3, 2), "piece.bias": (3,), "head.bias": (4,)},
        PARAMETERS | {"more": (1,)},
    ],
    ids=["missing", "shape", "unknown"],
)
def test_a_state_that_does_not_fit(
    folder: Path, manifest: Manifest, params: dict[str, tuple[int, ...]]
) -> None:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in params.items()}
    write_tensors(folder / "state.safetensors", arrays, {})
    write_artifact(folder, manifest)
    with pytest.raises(ArtifactError, match=r"state\.safetensors") as caught:
        Artifact.open(folder).initial_state()
    for name in PARAMETERS.keys() - params:
        assert f"{name!r} is missing" in str(caught.value)


def test_writing_is_deterministic(folder: Path, tmp_path: Path, manifest: Manifest) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("manifest.json"))
    written = write_artifact(copy, manifest)
    assert (copy / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert written == Artifact.open(copy).manifest


def test_writer_refuses_what_could_not_be_opened(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    manifest = make_manifest()
    for bad in (
        dataclasses.replace(manifest, name="\ud800"),
        dataclasses.replace(manifest, state_id="0" * 64),
        dataclasses.replace(manifest, shapes=dataclasses.replace(manifest.shapes, batch=0)),
    ):
        with pytest.raises(ArtifactError):
            write_artifact(folder, bad)
    os.mkdir(folder / "subfolder")
    with pytest.raises(ArtifactError, match="subfolder"):
        write_artifact(folder, manifest)
    assert (folder / "manifest.json").read_bytes() == before
