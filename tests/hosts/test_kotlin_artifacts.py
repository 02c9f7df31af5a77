"""The SDK refuses an artifact unless every byte of it is what the exporter wrote."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import Exported
from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.codec import seal
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.errors import ArtifactError, EngineError
from effine.runtime.tensors import read_tensors, write_tensors
from tiny_artifact import make_artifact, make_manifest

pytest_plugins = "runners"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "tiny.effine")


def verify(jvm: JvmRunner, folders: list[Path], *options: str | Path) -> list[str]:
    return jvm.run("verify", *folders, *options).splitlines()


class Copies:
    """Changed copies of an artifact, each with the name of the file that must be named."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self.target = folder, target
        self.made: dict[Path, str] = {}

    def copy(self, name: str) -> Path:
        path = self.target / f"{len(self.made)}.effine"
        shutil.copytree(self.folder, path)
        self.made[path] = name
        return path

    def flip(self, name: str) -> None:
        size = (self.folder / name).stat().st_size
        positions = np.random.default_rng(1).integers(0, size, 4).tolist()
        for position in {0, size - 1, *positions}:
            path = self.copy(name) / name
            changed = bytearray(path.read_bytes())
            changed[position] ^= 0x01
            path.write_bytes(changed)

    def resize(self, name: str) -> None:
        content = (self.folder / name).read_bytes()
        for changed in (content[:-1], content + b" ", b""):
            (self.copy(name) / name).write_bytes(changed)

    def replace(self, name: str) -> None:
        (self.copy(name) / name).unlink()
        linked = self.copy(name)
        (linked / name).unlink()
        (linked / name).symlink_to(self.folder / name)
        directory = self.copy(name)
        (directory / name).unlink()
        (directory / name).mkdir()

    def add(self, name: str) -> None:
        (self.copy(name) / name).write_bytes(b"")


def test_a_tampered_artifact_is_refused_and_the_file_named(
    jvm: JvmRunner, folder: Path, tmp_path: Path
) -> None:
    copies = Copies(folder, tmp_path)
    for name in sorted(entry.name for entry in folder.iterdir()):
        copies.flip(name)
        copies.resize(name)
        copies.replace(name)
    for name in ("extra.bin", ".hidden", "Manifest.json", "report"):
        copies.add(name)
    swapped = copies.copy("train.pte")
    shutil.copy(folder / "predict.pte", swapped / "train.pte")
    lines = verify(jvm, list(copies.made))
    assert len(lines) == len(copies.made) > 80
    for line, name in zip(lines, copies.made.values(), strict=True):
        assert line.startswith("ArtifactError ") and name in line


def test_what_python_opens_the_sdk_opens(
    jvm: JvmRunner, folder: Path, tmp_path: Path, artifact: Exported
) -> None:
    added = tmp_path / "added.effine"
    shutil.copytree(folder, added)
    (added / "reports").mkdir()
    (added / "reports" / "parity.json").write_text("anything")
    (added / "manifest.sig").write_bytes(b"unread without a key")
    assert verify(jvm, [folder, added, artifact("head").path]) == ["ok"] * 3


def documents(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Manifests with one absurdity each."""
    tensor = manifest["state"][0]
    train = manifest["programs"]["train"]["methods"]["train_b4_s32"]
    yield {key: value for key, value in manifest.items() if key != "recipe"}
    yield manifest | {"unknown": 1}
    yield manifest | {"state_id": "0" * 64}
    yield manifest | {"state_id": "x"}
    yield manifest | {"name": 5}
    yield manifest | {"target": manifest["target"] | {"version": "1.4.0"}}
    yield manifest | {"schema": 3}
    yield manifest | {"phases": {"train": {"layers_below": 0}}}
    yield manifest | {"schema": 2, "phases": {"warm": {"layers_below": 0}}}
    way = {"sources": ["train"], "target": "warm", "zero": [], "gather": [], "scatter": []}
    yield manifest | {"schema": 2, "transitions": [way]}
    rows = {"source": "none", "target": tensor["name"], "indices": "rows", "axis": 0}
    ways = [way | {"target": "train", "gather": [rows]}]
    yield manifest | {"schema": 2, "phases": {"train": {"layers_below": 0}}, "transitions": ways}
    yield manifest | {"shapes": {"batch": 0, "seqs": [16, 32]}}
    yield manifest | {"shapes": {"batch": 4, "seqs": [32, 16]}}
    yield manifest | {"shapes": {"batch": True, "seqs": [16, 32]}}
    yield manifest | {"state": [*manifest["state"], tensor]}
    yield manifest | {"state": [tensor | {"shape": [2, -3]}, *manifest["state"][1:]]}
    yield manifest | {"files": manifest["files"] | {"../x": {"size": 1, "sha256": "0" * 64}}}
    yield manifest | {
        "files": manifest["files"] | {"manifest.sig": {"size": 1, "sha256": "0" * 64}}
    }
    yield with_train(manifest, inputs=train["inputs"] * 2)


def with_train(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    train = manifest["programs"]["train"]["methods"]["train_b4_s32"] | changes
    program = {"file": "train.pte", "methods": {"train_b4_s32": train}}
    return manifest | {"programs": manifest["programs"] | {"train": program}}


def sealed(folder: Path, path: Path, document: dict[str, Any]) -> Path:
    shutil.copytree(folder, path)
    (path / "manifest.json").write_text(seal(document))
    return path


def test_absurd_manifests_are_refused(jvm: JvmRunner, folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    folders = [
        sealed(folder, tmp_path / f"{index}.effine", document)
        for index, document in enumerate(documents(manifest))
    ]
    lines = verify(jvm, folders)
    assert len(lines) == len(folders)
    for path, line in zip(folders, lines, strict=True):
        assert line.startswith("ArtifactError ") and len(line) < 400, line
        with pytest.raises(ArtifactError):
            Artifact.open(path)


def test_an_unknown_task_is_refused(jvm: JvmRunner, folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    named = manifest["task"] | {"name": "summaries"}
    path = sealed(folder, tmp_path / "summaries.effine", manifest | {"task": named})
    (line,) = verify(jvm, [path])
    assert line.startswith("ArtifactError ") and 'task.name: "summaries" is not one of' in line


def openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("making a key needs openssl: apt install openssl")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def key_pair(folder: Path, name: str, curve: str = "prime256v1") -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def sign(folder: Path, private: Path) -> None:
    manifest, signature = folder / "manifest.json", folder / "manifest.sig"
    openssl("dgst", "-sha256", "-sign", private, "-out", signature, manifest)


def test_a_signature_is_demanded_when_a_key_is_given(
    jvm: JvmRunner, folder: Path, tmp_path: Path
) -> None:
    (private, public), (other, _) = key_pair(tmp_path, "ours"), key_pair(tmp_path, "other")
    signed, foreign, changed = (tmp_path / f"{name}.effine" for name in ("s", "f", "c"))
    for path in (signed, foreign, changed):
        shutil.copytree(folder, path)
        sign(path, other if path == foreign else private)
    write_artifact(changed, dataclasses.replace(make_manifest(), name="another"))
    lines = verify(jvm, [signed, foreign, changed, folder], "--key", public)
    assert lines[0] == "ok"
    assert all("isn't the expected key's signature" in line for line in lines[1:3])
    assert "manifest.sig: missing, but a signature is demanded" in lines[3]


def test_only_keys_on_p_256_are_taken(jvm: JvmRunner, folder: Path, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, "large", "secp384r1")
    with pytest.raises(EngineError, match="the public key is on another curve than P-256"):
        verify(jvm, [folder], "--key", public)


def test_a_tensor_file_is_written_as_python_writes_it(jvm: JvmRunner, tmp_path: Path) -> None:
    tensors = {
        "z": np.arange(6, dtype=np.float32).reshape(2, 3) / 3,
        "\U0001f600": np.array([-0.0, 5e-324, 1.7e308]),
        "\uff61": np.array([[-(2**62)]]),
        "small": np.array([7], np.int32),
        "bytes": np.array([0, 255, 3], np.uint8),
        "scalar": np.array(2.5, np.float32),
    }
    ours, theirs = tmp_path / "python", tmp_path / "kotlin"
    write_tensors(ours, tensors, {"zeta": 'größe "x"\n\x7f', "alpha": "12"})
    jvm.run("rewrite", ours, theirs)
    assert ours.read_bytes() == theirs.read_bytes()
    assert list(read_tensors(theirs)[0]) == list(tensors)
