"""Packs artifacts into an app: a bundle, in which artifacts share what they can.

An app's folder gets one folder `effine`, written beside it and renamed, so that a failed run
changes nothing. The archive for download is the same bundle, without compression, since
weights hardly get smaller; the same bundle is the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from effine.export.errors import ExportError
from effine.export.folders import replace_folder
from effine.export.short_run import shorten
from effine.export.signing import PrivateKey
from effine.runtime import bundle as bundles
from effine.runtime.artifact import BACKBONES, MANIFEST, REPORTS, SIGNATURE, Artifact
from effine.runtime.bundle import Bundle, BundleInfo
from effine.runtime.codec import FormatError, decode
from effine.runtime.engines import WEIGHT_FILES
from effine.runtime.manifest import Manifest
from effine.runtime.tensors import atomic_write

FOLDER = "effine"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Args:
        info: what `bundle.json` says.
        written: the folders and the archive.
        size: bytes of the bundle.
        saved: bytes that sharing backbones saved.
    """

    info: BundleInfo
    written: tuple[Path, ...]
    size: int
    saved: int


def pack(
    artifacts: Sequence[Path],
    *,
    android: Path | None = None,
    ios: Path | None = None,
    archive: Path | None = None,
    sign: Path | None = None,
    version: int = 1,
    allow_unverified: bool = False,
    warn: Callable[[str], object] = lambda line: None,
) -> Packed:
    """Pack artifacts into an app's assets, into its resources, or into one file.

    Args:
        artifacts: their folders, whose names they keep.
        android: the app's assets; gets or replaces a folder `effine`.
        ios: the app's resources; likewise.
        archive: a file that `install` reads; it has to be signed.
        sign: a private key; its signature is written beside `bundle.json` and each manifest.
        version: of the bundle; an installed one is never replaced by a lower one.
        allow_unverified: pack artifacts without a passing parity report, and say so in the bundle.
        warn: is told of each such artifact, in a line.

    Raises:
        ExportError: an artifact isn't verified or can't run on phones, an option doesn't fit, or
            a destination can't be written. Every destination is whole or what it was.
        ArtifactError: an artifact is damaged.
    """
    folders = [folder for folder in (android, ios) if folder is not None]
    _check_destinations(folders, archive, sign)
    key = None if sign is None else PrivateKey.read(sign)
    opened = _opened(artifacts)
    doubts = [doubt for artifact in opened.values() if (doubt := _doubt(artifact))]
    if doubts and not allow_unverified:
        raise ExportError(f"{doubts[0]}; run effine parity, or pass --allow-unverified")
    for doubt in doubts:
        warn(f"warning: {doubt}")
    try:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="effine-")), FOLDER)
            info = _build(scratch, opened, key, version, verified=not doubts)
            Bundle.open(scratch)
            staged = [_staged(scratch, folder, stack) for folder in folders]
            if archive is not None:
                with atomic_write(archive) as file:
                    _zip(scratch, file)
            for copy, folder in zip(staged, folders, strict=True):
                replace_folder(copy, folder / FOLDER)
            size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    except OSError as error:
        place = error.filename or [*folders, archive][0]
        raise ExportError(f"{place}: can't be written: {error.strerror or error}") from error
    written = (*(folder / FOLDER for folder in folders), *([archive] if archive else []))
    return Packed(info, written, size, _saved(opened))


def _check_destinations(folders: list[Path], archive: Path | None, sign: Path | None) -> None:
    if not folders and archive is None:
        raise ExportError("nowhere to pack to: pass --android, --ios or --zip")
    if archive is not None and sign is None:
        raise ExportError("--zip: what is installed has to be signed; pass --sign KEY.pem")
    for folder in folders:
        target = folder / FOLDER
        if not folder.is_dir():
            raise ExportError(f"{folder}: no such directory; create it first")
        if os.path.lexists(target) and not (target / bundles.INFO).is_file():
            raise ExportError(f"{target}: exists and isn't a bundle; move it away")
    if archive is not None and archive.exists() and not zipfile.is_zipfile(archive):
        raise ExportError(f"{archive}: exists and isn't a zip archive; choose another --zip")


def _opened(paths: Sequence[Path]) -> dict[str, Artifact]:
    opened: dict[str, Artifact] = {}
    for path in paths:
        name = path.resolve().name
        artifact = Artifact.open(path)
        target = artifact.manifest.target.name
        if target != "xnnpack":
            raise ExportError(f"{path}: phones don't run {target} programs; export it for xnnpack")
        if name in opened:
            raise ExportError(f"{path}: another artifact is called {name} too; rename one")
        try:
            decode(bundles.FolderName, name, "")
        except FormatError as error:
            raise ExportError(f"{path}: {name!r} can't name it in an app; rename it") from error
        opened[name] = artifact
    return opened


def _doubt(artifact: Artifact) -> str | None:
    """Why parity doesn't vouch for an artifact, if it doesn't."""
    passed = False
    for path in sorted((artifact.path / REPORTS).glob("parity-*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            if report["manifest"] != artifact.manifest.sha256:
                continue
            if report["passed"] is not True:
                return f"{path}: says that parity failed"
            passed = True
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ExportError(f"{path}: not a parity report; remove it") from error
    return None if passed else f"{artifact.path}: has no parity report for its manifest"


def _build(
    folder: Path,
    artifacts: dict[str, Artifact],
    key: PrivateKey | None,
    version: int,
    verified: bool,
) -> BundleInfo:
    (folder / BACKBONES).mkdir(parents=True)
    manifests = {
        name: _add(artifact, folder / name, key) for name, artifact in sorted(artifacts.items())
    }
    hashes = {name: manifest.sha256 for name, manifest in manifests.items()}
    text = BundleInfo(version=version, verified=verified, artifacts=hashes).to_json()
    (folder / bundles.INFO).write_bytes(text.encode())
    if key is not None:
        (folder / bundles.SIGNATURE).write_bytes(key.sign(text.encode()))
    return BundleInfo.from_json(text)


def _add(artifact: Artifact, folder: Path, key: PrivateKey | None) -> Manifest:
    """Copy an artifact into the bundle, and move its weights to those that are shared."""
    folder.mkdir()
    shutil.copyfile(artifact.path / MANIFEST, folder / MANIFEST)
    for name in artifact.manifest.files:
        shutil.copyfile(artifact.file(name), folder / name)
    shorten(folder)
    manifest = Artifact.open(folder).manifest
    weights = WEIGHT_FILES[manifest.target.name]
    shared = f"{manifest.files[weights].sha256}{Path(weights).suffix}"
    (folder / weights).replace(folder.parent / BACKBONES / shared)
    if key is not None:
        (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))
    return manifest


def _staged(bundle: Path, folder: Path, stack: ExitStack) -> Path:
    """A copy on the destination's file system; Android leaves out what starts with a dot."""
    scratch = stack.enter_context(TemporaryDirectory(dir=folder, prefix=f".{FOLDER}."))
    return Path(shutil.copytree(bundle, Path(scratch, FOLDER)))


def _zip(bundle: Path, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w") as zipped:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(bundle).as_posix(), _EPOCH)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, zipped.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 2**20)


def _saved(artifacts: dict[str, Artifact]) -> int:
    entries = [a.manifest.files[WEIGHT_FILES[a.manifest.target.name]] for a in artifacts.values()]
    once = {entry.sha256: entry.size for entry in entries}
    return sum(entry.size for entry in entries) - sum(once.values())
