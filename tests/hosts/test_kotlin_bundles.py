"""The SDK opens and installs bundles as Python does, and refuses what Python refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from artifacts import Exported
from bundles import Keys, make_pair, packed, tree, verify
from effine.export.pack import pack
from effine.export.short_run import shorten
from effine.runtime.artifact import Artifact
from effine.runtime.engines.jvm import JvmRunner, replay_jvm
from effine.runtime.install import install
from effine.runtime.manifest_fields import MethodInfo
from effine.runtime.parity import compare
from effine.runtime.signing import PublicKey
from tampered import CHANGES, rewritten

pytest_plugins = ("runners", "bundles")


def installed(jvm: JvmRunner, archives: list[Path], home: Path, key: Path) -> list[str]:
    return jvm.run("install", *archives, "--home", home, "--key", key).splitlines()


@pytest.fixture
def bundle(tmp_path: Path, keys: Keys) -> Path:
    pack(make_pair(tmp_path / "made"), android=tmp_path, sign=keys["ours"])
    return tmp_path / "effine"


def test_a_tampered_bundle_is_refused(
    jvm: JvmRunner, bundle: Path, tmp_path: Path, keys: Keys
) -> None:
    """Bytes flipped, files added, removed and swapped, links, and the signature of another key."""
    copies: list[tuple[Path, str]] = []

    def copy(name: str) -> Path:
        path = tmp_path / "copies" / str(len(copies))
        copies.append((path, name))
        return Path(shutil.copytree(bundle, path))

    for file in sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()):
        flipped = copy(file.name) / file
        content = bytearray(flipped.read_bytes())
        content[len(content) // 2] ^= 0x01
        flipped.write_bytes(content)
        (copy("" if file.parent.name == "backbones" else file.name) / file).unlink()
    for place in (".", "backbones", "first.effine"):
        (copy("extra: isn't part of") / place / "extra").mkdir()
    for name in ("train.pte", "manifest.sig", "."):
        folder = copy("first.effine")
        first, second = folder / "first.effine" / name, folder / "second.effine" / name
        first.rename(folder / "kept")
        second.rename(first)
        (folder / "kept").rename(second)
    for name in ("backbones", "first.effine"):
        linked = copy("is a symbolic link") / name
        shutil.rmtree(linked)
        linked.symlink_to(bundle / name)
    folders = [path for path, _ in copies]
    lines = jvm.run("verify", bundle, *folders, "--bundles", "--key", keys["ours.pub"]).splitlines()
    assert lines[0] == "ok" and len(lines) == 1 + len(copies) > 45
    for line, (_, name) in zip(lines[1:], copies, strict=True):
        assert line.startswith("ArtifactError ") and name in line, line
    (line,) = jvm.run("verify", bundle, "--bundles", "--key", keys["other.pub"]).splitlines()
    assert "bundle.sig: isn't the expected key's signature of bundle.json" in line


def test_what_the_sdk_installs_is_what_python_installs(
    jvm: JvmRunner, tmp_path: Path, keys: Keys
) -> None:
    """Nothing older is installed, and where checkpoints don't go on, nothing is removed."""
    other = MethodInfo("adapter", {"size": 32, "scale": 0.5, "names": ("a",)}, 2, 1)
    archives = [
        packed(tmp_path, keys, 1),
        packed(tmp_path, keys, 2, torch="2.13.1"),
        packed(tmp_path, keys, 3, method=other),
    ]
    ours, theirs = tmp_path / "python", tmp_path / "kotlin"
    one, two, three = archives
    lines = installed(jvm, [one, one, two, one, three], theirs, keys["ours.pub"])
    assert lines[:3] == ["version 1", "version 1", "version 2"]
    assert "version 1 is older than the installed 2" in lines[3]
    assert lines[4] == "version 3 first.effine"
    for archive in (one, two, three):
        install(archive, ours, PublicKey.read(keys["ours.pub"]))
    assert tree(theirs) == tree(ours)


def test_tampered_archives_are_refused(jvm: JvmRunner, tmp_path: Path, keys: Keys) -> None:
    archive, home = packed(tmp_path, keys), tmp_path / "home"
    changes = [change for changes in CHANGES.values() for change in changes]
    folders = [tmp_path / f"c{index}" for index in range(len(changes))]
    for folder in folders:
        folder.mkdir()
    changed = [rewritten(archive, *pair) for pair in zip(folders, changes, strict=True)]
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-30])
    absent = tmp_path / "absent.zip"
    assert installed(jvm, [archive], home, keys["ours.pub"]) == ["version 1"]
    before = tree(home)
    lines = installed(jvm, [*changed, cut, absent], home, keys["ours.pub"])
    assert len(lines) == len(changes) + 2
    for line in lines:
        assert line.startswith("ArtifactError "), line
    assert tree(home) == before and not list(tmp_path.glob("**/x"))
    (line,) = installed(jvm, [archive], home, keys["other.pub"])
    assert "bundle.sig: isn't the expected key's signature" in line


def test_a_short_golden_run_is_replayed(jvm: JvmRunner, artifact: Exported, tmp_path: Path) -> None:
    short = Path(shutil.copytree(artifact("adapter").path, tmp_path / "short.effine"))
    shorten(short, limit=60_000)
    verify(short)
    pack([short], android=tmp_path)
    bundled = tmp_path / "effine" / "short.effine"
    report = compare(Artifact.open(bundled), replay_jvm(jvm, bundled, 1), "jvm")
    assert report.passed, report
    assert jvm.run("self-test", bundled).startswith("passed: loss off by ")
