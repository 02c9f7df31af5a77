"""A bundle is opened when every byte of it is what was packed, and loads its backbone once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, pairs, tags
from bundles import Keys, make_pair
from effine.export.pack import pack
from effine.runtime.artifact import Artifact
from effine.runtime.bundle import Bundle
from effine.runtime.engines import executorch
from effine.runtime.errors import ArtifactError, EffineError
from effine.runtime.manifest_fields import Program
from effine.runtime.signing import PublicKey
from effine.runtime.trainer import Trainer

pytest_plugins = "bundles"
ARTIFACTS = ("first.effine", "second.effine")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    folder = tmp_path_factory.mktemp("app")
    pack(make_pair(folder / "made"), android=folder, sign=keys["ours"])
    return folder / "effine"


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "bundle")


def refused(folder: Path, key: PublicKey | None) -> str:
    with pytest.raises(ArtifactError) as caught:
        Bundle.open(folder, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_artifacts_share_their_backbone(bundle: Path, ours: PublicKey) -> None:
    opened = Bundle.open(bundle, ours)
    assert tuple(opened.artifacts) == ARTIFACTS and opened.info.verified
    (weights,) = (bundle / "backbones").iterdir()
    for name, artifact in opened.artifacts.items():
        assert artifact.file("backbone.ptd") == weights
        assert artifact.file("train.pte") == bundle / name / "train.pte"
        assert not (bundle / name / "backbone.ptd").exists()
        assert Artifact.open(bundle / name, ours).manifest == artifact.manifest
    with pytest.raises(ArtifactError, match=r"has no third.effine, but first.effine, second"):
        opened.trainer("third.effine")


def test_an_artifact_needs_its_backbone(bundle: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(bundle / "first.effine", tmp_path / "alone" / "first.effine")
    with pytest.raises(ArtifactError, match=r"backbone\.ptd: missing"):
        Artifact.open(moved)


@pytest.mark.parametrize("signed", [False, True])
def test_a_changed_file_is_refused(bundle: Path, ours: PublicKey, signed: bool) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    assert len(files) == 2 + 1 + 2 * 8
    for path in files:
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[position] ^= 0x01
            path.write_bytes(changed)
            if signed or path.suffix != ".sig":
                assert path.name in refused(bundle, ours if signed else None)
        path.unlink()
        if signed or path.suffix != ".sig":
            named = "backbone.ptd" if path.suffix == ".ptd" else path.name
            assert named in refused(bundle, ours if signed else None)
        path.write_bytes(content)
    Bundle.open(bundle, ours)


@pytest.mark.parametrize("place", [".", "backbones", "first.effine"])
def test_an_added_entry_is_refused(bundle: Path, place: str) -> None:
    added = bundle / place / "extra"
    added.write_bytes(b"")
    assert "extra: isn't part of" in refused(bundle, None)
    added.unlink()
    added.mkdir()
    assert "extra: isn't part of" in refused(bundle, None)


@pytest.mark.parametrize("name", ["train.pte", "manifest.json", "manifest.sig", "."])
def test_what_is_swapped_between_artifacts_is_refused(
    bundle: Path, ours: PublicKey, tmp_path: Path, name: str
) -> None:
    first, second = (bundle / folder / name for folder in ARTIFACTS)
    first.rename(tmp_path / "kept")
    second.rename(first)
    (tmp_path / "kept").rename(second)
    assert "first.effine" in refused(bundle, ours)


@pytest.mark.parametrize("name", ["backbones", "first.effine", "bundle.json", "manifest.json"])
def test_links_are_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    path = bundle / name if name != "manifest.json" else bundle / "first.effine" / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in refused(bundle, None)


def test_another_key_and_no_signature(bundle: Path, keys: Keys, ours: PublicKey) -> None:
    other = PublicKey.read(keys["other.pub"])
    assert "bundle.sig: isn't the expected key's signature" in refused(bundle, other)
    with pytest.raises(ArtifactError, match=r"manifest\.sig: isn't the expected key's signature"):
        Artifact.open(bundle / "first.effine", other)
    (bundle / "first.effine" / "manifest.sig").unlink()
    assert "manifest.sig: missing, but a signature is demanded" in refused(bundle, ours)
    Bundle.open(bundle)


def test_what_is_no_key(keys: Keys, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    with pytest.raises(EffineError, match="can't be read: No such file"):
        PublicKey.read(bad)
    bad.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    for path in (bad, keys["ours"]):
        with pytest.raises(EffineError, match="isn't a public key in PEM"):
            PublicKey.read(path)


def test_a_backbone_that_tasks_share_is_loaded_once(
    artifact: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks take turns; what they compute is what they compute alone."""
    made = {task: artifact("head", "bert", task) for task in ("multilabel", "pair")}
    pack([each.path for each in made.values()], android=tmp_path, allow_unverified=True)
    loads: list[str] = []
    load = executorch.load_runtime_program

    def counted(artifact: Artifact, program: Program) -> object:
        loads.append(program.file)
        return load(artifact, program)

    monkeypatch.setattr(executorch, "load_runtime_program", counted)
    bundle = Bundle.open(tmp_path / "effine")
    assert not bundle.info.verified
    rows = {"multilabel": tags()[:4], "pair": pairs()[:4]}
    trainers = {
        task: bundle.trainer(each.path.name, threads=1, cache=False) for task, each in made.items()
    }
    for _ in range(2):
        for task, trainer in trainers.items():
            trainer.fit(rows[task], epochs=1)
    assert sorted(loads) == ["backbone.pte", "train.pte", "train.pte"]
    for task, each in made.items():
        alone = Trainer(each, threads=1, cache=False)
        alone.fit(rows[task], epochs=1)
        for name, array in alone.state.items():
            np.testing.assert_array_equal(array, trainers[task].state[name], name)
