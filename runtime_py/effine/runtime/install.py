"""Installs a bundle from one file: checked before anything is written, whole or not at all.

The file is a zip archive without compression, so that what is unpacked is never larger than
it. A bundle is unpacked into a folder named by the hash of its `bundle.json`, verified there,
and taken into use by one rename.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from effine.runtime.bundle import CURRENT, INFO, MAX_INFO, SIGNATURE, Bundle, current, read_info
from effine.runtime.errors import ArtifactError
from effine.runtime.signing import MAX_SIGNATURE, PublicKey
from effine.runtime.tensors import atomic_write, sync_folder

MAX_FILES = 10_000
_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_ENCRYPTED = 1
_SCRATCH = ".effine-"
_MALFORMED = (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, struct.error)


@dataclass(frozen=True)
class Installed:
    """What an installation did.

    Args:
        bundle: now in use.
        orphans: artifacts of the bundle before whose checkpoints don't go on, as the new
            bundle has them with another `state_id` or not at all.
        kept: the folder of the bundle before, which isn't removed if there are orphans.
    """

    bundle: Bundle
    orphans: tuple[str, ...] = ()
    kept: Path | None = None


def install(archive: Path | str, home: Path | str, public_key: PublicKey) -> Installed:
    """Install a bundle and take it into use; after any failure the one before still is.

    Args:
        archive: what `effine pack --zip` wrote.
        home: a folder for nothing but installed bundles, made when missing.
        public_key: whose signature the bundle must carry.

    Raises:
        ArtifactError: the archive isn't this key's bundle, is damaged, has an older version
            than the bundle in use, or holds anything that doesn't belong into it; or `home`
            can't be written.
    """
    archive, home = Path(archive), Path(home)
    try:
        home.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=home, prefix=_SCRATCH) as scratch:
            folder = Path(scratch, "bundle")
            with _opened(archive) as zipped:
                _unpack(zipped, archive, folder, home, public_key)
            info = Bundle.open(folder, public_key).info
            before = _in_use(home)
            _sync(folder)
            _place(folder, home / info.sha256, public_key, Path(scratch, "damaged"))
        with atomic_write(home / CURRENT) as file:
            file.write(info.sha256.encode())
    except OSError as error:
        raise ArtifactError(
            f"{home}: {archive} can't be installed: {error.strerror or error}"
        ) from error
    bundle = Bundle.open(home, public_key)
    orphans = () if before is None else _orphans(before, bundle)
    if before is not None and orphans:
        return Installed(bundle, orphans, before.path)
    _remove_others(home, bundle)
    return Installed(bundle)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as zipped:
            yield zipped
    except _MALFORMED as error:
        raise ArtifactError(f"{archive}: not a usable zip archive: {error}") from error
    except FileNotFoundError as error:
        raise ArtifactError(f"{archive}: no such file") from error


def _unpack(
    zipped: zipfile.ZipFile, archive: Path, folder: Path, home: Path, public_key: PublicKey
) -> None:
    """Check all names and sizes, then signature and version, and only then write the rest."""
    entries = _checked(zipped, archive)
    folder.mkdir()
    for name, limit in ((INFO, MAX_INFO), (SIGNATURE, MAX_SIGNATURE)):
        entry = entries.pop(name, None)
        if entry is not None and entry.file_size <= limit:
            (folder / name).write_bytes(zipped.read(entry))
    try:
        version = read_info(folder, public_key).version
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(folder), str(archive))) from error
    installed = _installed_version(home)
    if version < installed:
        raise ArtifactError(
            f"{archive}: version {version} is older than the installed {installed}; "
            "pack it with a --version that isn't lower"
        )
    for name, entry in entries.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with zipped.open(entry) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, 2**20)


def _checked(zipped: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by name: plain files, uncompressed, one or two levels deep, each once."""
    entries: dict[str, zipfile.ZipInfo] = {}
    listed = zipped.infolist()
    if len(listed) > MAX_FILES:
        raise ArtifactError(f"{archive}: {len(listed)} files, more than {MAX_FILES}")
    for entry in listed:
        shown = repr(entry.orig_filename[:100])
        if not re.fullmatch(rf"{_PART}(/{_PART})?", entry.orig_filename):
            raise ArtifactError(f"{archive}: {shown} isn't a path inside of a bundle")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ArtifactError(f"{archive}: {shown} isn't a plain file")
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & _ENCRYPTED
        if not plain or entry.file_size != entry.compress_size:
            raise ArtifactError(f"{archive}: {shown} is compressed or encrypted; use effine pack")
        if entry.filename in entries:
            raise ArtifactError(f"{archive}: {shown} occurs twice")
        entries[entry.filename] = entry
    size, total = archive.stat().st_size, sum(entry.file_size for entry in listed)
    if total > size:
        raise ArtifactError(f"{archive}: {total} bytes in an archive of {size}")
    return entries


def _sync(folder: Path) -> None:
    """Make sure that all is on the disk before a name points to it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    for path in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        sync_folder(path)


def _place(folder: Path, target: Path, public_key: PublicKey, damaged: Path) -> None:
    """Move a bundle to its folder, unless it is there already."""
    try:
        Bundle.open(target, public_key)
    except ArtifactError:
        if target.exists():
            target.rename(damaged)
        folder.rename(target)


def _in_use(home: Path) -> Bundle | None:
    """The bundle before; None also if it can't be read, which an installation mends."""
    try:
        return Bundle.open(home) if current(home) is not None else None
    except ArtifactError:
        return None


def _installed_version(home: Path) -> int:
    try:
        folder = current(home)
        return 0 if folder is None else read_info(folder, None).version
    except ArtifactError:
        return 0


def _orphans(before: Bundle, bundle: Bundle) -> tuple[str, ...]:
    now = {name: artifact.manifest.state_id for name, artifact in bundle.artifacts.items()}
    return tuple(
        name
        for name, artifact in before.artifacts.items()
        if now.get(name) != artifact.manifest.state_id
    )


def _remove_others(home: Path, bundle: Bundle) -> None:
    """Remove bundles that are no longer used, and what a killed installation left."""
    for entry in home.iterdir():
        unused = re.fullmatch("[0-9a-f]{64}", entry.name) and entry != bundle.path
        if unused or entry.name.startswith(_SCRATCH):
            shutil.rmtree(entry, ignore_errors=True)
