"""A bundle is installed whole, or the one before stays in use."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bundles import Keys, packed, tree
from effine.export.pack import pack
from effine.runtime import install as installing
from effine.runtime.artifact import Artifact
from effine.runtime.bundle import Bundle, current
from effine.runtime.checkpoint import Checkpoint
from effine.runtime.errors import ArtifactError, IncompatibleCheckpoint
from effine.runtime.install import install
from effine.runtime.manifest_fields import MethodInfo
from effine.runtime.signing import PublicKey
from tampered import CHANGES, rewritten

pytest_plugins = "bundles"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> dict[int, Path]:
    """Versions 1 to 3 of a bundle; in the last, the first artifact's method differs."""
    folder = tmp_path_factory.mktemp("archives")
    other = MethodInfo("adapter", {"size": 32, "scale": 0.5, "names": ("a",)}, 2, 1)
    return {
        1: packed(folder, keys, 1),
        2: packed(folder, keys, 2, torch="2.13.1"),
        3: packed(folder, keys, 3, method=other),
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "installed"


def refused(archive: Path, home: Path, key: PublicKey) -> str:
    """The message; what is installed is as before, and nothing is left over."""
    before = tree(home)
    with pytest.raises(ArtifactError) as caught:
        install(archive, home, key)
    assert tree(home) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_versions_follow_each_other(archives: dict[int, Path], home: Path, ours: PublicKey) -> None:
    for version in (1, 1, 2):
        done = install(archives[version], home, ours)
        assert done.bundle.info.version == version and not done.orphans and done.kept is None
        assert Bundle.open(home, ours).path == done.bundle.path == current(home)
        assert {path.name for path in home.iterdir()} == {"current", done.bundle.info.sha256}
    message = refused(archives[1], home, ours)
    assert message.startswith(f"{archives[1]}: version 1 is older than the installed 2")


def test_an_archive_of_another_key_or_of_none(
    archives: dict[int, Path], home: Path, keys: Keys, ours: PublicKey, tmp_path: Path
) -> None:
    other = PublicKey.read(keys["other.pub"])
    assert "bundle.sig: isn't the expected key's signature" in refused(archives[1], home, other)
    unsigned = rewritten(
        archives[1], tmp_path, lambda e: [p for p in e if p[0].filename[-3:] != "sig"]
    )
    assert "bundle.sig: missing" in refused(unsigned, home, ours)
    assert "no such file" in refused(tmp_path / "absent.zip", home, ours)


@pytest.mark.parametrize("reason", CHANGES)
def test_a_changed_archive_is_refused(
    archives: dict[int, Path], home: Path, ours: PublicKey, tmp_path: Path, reason: str
) -> None:
    install(archives[1], home, ours)
    for change in CHANGES[reason]:
        assert reason in refused(rewritten(archives[2], tmp_path, change), home, ours)
    assert not (tmp_path.parent / "x").exists() and not (tmp_path / "x").exists()


def test_an_archive_that_claims_absurd_sizes(
    archives: dict[int, Path], home: Path, ours: PublicKey, tmp_path: Path
) -> None:
    """Entries that all point to the same bytes are larger together than their archive."""
    content = archives[1].read_bytes()
    with zipfile.ZipFile(archives[1]) as source:
        entries = source.infolist()
        start = source.start_dir
    large = max(entries, key=lambda entry: entry.file_size)
    for entry in entries:
        entry.header_offset, entry.CRC = large.header_offset, large.CRC
        entry.file_size = entry.compress_size = large.file_size
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(content[:start])
    with zipfile.ZipFile(bomb, "a") as written:
        written.filelist, written.start_dir, written._didModify = entries, start, True
    assert "bytes in an archive of" in refused(bomb, home, ours)


def test_flipped_and_missing_bytes(
    archives: dict[int, Path], home: Path, ours: PublicKey, tmp_path: Path
) -> None:
    """Either nothing that counts has changed, or the archive is refused."""
    install(archives[1], home, ours)
    content = archives[1].read_bytes()
    changed = tmp_path / "changed.zip"
    before = tree(home)
    random = np.random.default_rng(5)
    directory = content.index(b"PK\x01\x02")
    positions = [
        *random.integers(0, len(content), 20),
        *random.integers(directory, len(content), 40),
    ]
    refusals = 0
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << random.integers(8)
        changed.write_bytes(flipped)
        try:
            install(changed, home, ours)
        except ArtifactError:
            refusals += 1
        assert tree(home) == before
    assert refusals > 20
    for size in (0, 10, len(content) // 2, len(content) - 1):
        changed.write_bytes(content[:size])
        refused(changed, home, ours)


@pytest.mark.parametrize("function", ["_place", "atomic_write"])
def test_a_failure_half_way_leaves_the_bundle_before(
    archives: dict[int, Path],
    home: Path,
    ours: PublicKey,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    install(archives[1], home, ours)
    with monkeypatch.context() as patch:
        patch.setattr(installing, function, broken)
        with pytest.raises(ArtifactError, match="can't be installed: No space left on device"):
            install(archives[2], home, ours)
    assert Bundle.open(home, ours).info.version == 1
    (home / ".effine-killed").mkdir()
    assert install(archives[2], home, ours).bundle.info.version == 2
    assert len(list(home.iterdir())) == 2


def test_a_damaged_installation_is_mended(
    archives: dict[int, Path], home: Path, ours: PublicKey
) -> None:
    done = install(archives[1], home, ours)
    (done.bundle.path / "first.effine" / "train.pte").write_bytes(b"")
    assert install(archives[1], home, ours).bundle.info.version == 1
    (home / "current").write_text("../elsewhere")
    with pytest.raises(ArtifactError, match="install the bundle again"):
        Bundle.open(home)
    install(archives[1], home, ours)
    assert Bundle.open(home, ours).path == done.bundle.path


def test_checkpoints_go_on_where_the_state_is_the_same(
    archives: dict[int, Path], home: Path, ours: PublicKey, tmp_path: Path
) -> None:
    """Otherwise the app is told, and nothing is deleted."""
    old = install(archives[1], home, ours).bundle
    saved = {name: checkpoint(each, tmp_path / name) for name, each in old.artifacts.items()}
    updated = install(archives[2], home, ours).bundle
    for name, path in saved.items():
        manifest = updated.artifacts[name].manifest
        assert Checkpoint.load(path, manifest).state_id == manifest.state_id
    assert updated.artifacts["first.effine"].manifest != old.artifacts["first.effine"].manifest
    done = install(archives[3], home, ours)
    assert done.orphans == ("first.effine",) and done.kept == updated.path
    Bundle.open(updated.path, ours)
    Checkpoint.load(saved["second.effine"], done.bundle.artifacts["second.effine"].manifest)
    with pytest.raises(IncompatibleCheckpoint, match="option size"):
        Checkpoint.load(saved["first.effine"], done.bundle.artifacts["first.effine"].manifest)


def checkpoint(artifact: Artifact, path: Path) -> Path:
    Checkpoint.of(
        artifact.manifest,
        state=artifact.initial_state(),
        best_state=None,
        phase="train",
        policy={},
        step=1,
        update=1,
        total_updates=9,
        epoch=0,
        cursor=1,
        seed=0,
        data_fingerprint="f",
        settings={},
        best_metric=None,
        patience_left=0,
        labels=artifact.manifest.task.labels,
        report={},
    ).save(path)
    return path


def test_what_an_app_ships_is_what_it_downloads(
    archives: dict[int, Path], home: Path, keys: Keys, ours: PublicKey, tmp_path: Path
) -> None:
    sources = [archives[1].parent / "1" / f"{name}.effine" for name in ("first", "second")]
    pack(sources, android=tmp_path, sign=keys["ours"])
    done = install(archives[1], home, ours)
    assert tree(done.bundle.path) == tree(tmp_path / "effine")
    shutil.rmtree(done.bundle.path)
    with pytest.raises(ArtifactError, match="not a bundle"):
        Bundle.open(home)
