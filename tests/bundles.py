"""Small artifacts of dummy bytes to pack, keys to sign them with, and what lies in a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from effine.export.pack import pack
from effine.export.signing import make_key
from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.signing import PublicKey
from tiny_artifact import make_artifact, make_manifest

Keys = dict[str, Path]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Private keys `ours` and `other`, and the public ones `ours.pub` and `other.pub`."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("ours", "other"):
        made[name] = folder / f"{name}.pem"
        made[f"{name}.pub"] = make_key(made[name])
    return made


@pytest.fixture
def ours(keys: Keys) -> PublicKey:
    return PublicKey.read(keys["ours.pub"])


def make_pair(folder: Path, **changes: object) -> tuple[Path, Path]:
    """Two artifacts of one backbone, with all else different; both are verified."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (make_artifact(folder / f"{name}.effine") for name in ("first", "second"))
    for name in ("train.pte", "predict.pte"):
        (second / name).write_bytes((second / name).read_bytes()[::-1])
    write_artifact(first, make_manifest(name="first", **changes))
    write_artifact(second, make_manifest(name="second"))
    verify(first)
    verify(second)
    return first, second


def verify(folder: Path, **changes: object) -> Path:
    """Write the parity report that packing asks for."""
    report = folder / "reports" / "parity-python.json"
    report.parent.mkdir(exist_ok=True)
    manifest = Artifact.open(folder).manifest
    report.write_text(json.dumps({"manifest": manifest.sha256, "passed": True} | changes))
    return report


def rename(folder: Path, name: str) -> None:
    """Change nothing but the name in the manifest."""
    manifest = Artifact.open(folder).manifest
    write_artifact(folder, dataclasses.replace(manifest, name=name))
    verify(folder)


def packed(folder: Path, keys: Keys, version: int = 1, **changes: object) -> Path:
    """A signed archive of two artifacts; `changes` are those of the first one's manifest."""
    archive = folder / f"{version}.zip"
    first_and_second = make_pair(folder / str(version), **changes)
    pack(first_and_second, archive=archive, sign=keys["ours"], version=version)
    return archive


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies below a folder, hidden or not; None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
