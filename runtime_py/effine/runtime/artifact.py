"""An artifact on disk: verified before a byte of it is used, and written by the exporter."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from effine.runtime.engines import Arrays
from effine.runtime.errors import ArtifactError, StateError
from effine.runtime.manifest import RESERVED_FILES, FileEntry, Manifest
from effine.runtime.state import initial_state
from effine.runtime.tensors import atomic_write, read_tensors

EXECUTORCH = "1.5"
MANIFEST, SIGNATURE, REPORTS = RESERVED_FILES
STATE = "state.safetensors"
GOLDEN = "golden.safetensors"
TOKENIZER = "tokenizer.json"
MAX_MANIFEST = 64 * 2**20
_AGAIN = "copy the artifact anew or export it again"


@dataclass(frozen=True)
class Artifact:
    """An artifact whose files have been verified.

    Args:
        path: its directory.
        manifest: what it holds.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Verify an artifact: the manifest first, then every file, then that nothing is added.

        Raises:
            ArtifactError: naming the file that is damaged, missing or additional, or the
                version that doesn't fit.
        """
        path = Path(path)
        try:
            manifest = _read_manifest(path)
            for name, entry in manifest.files.items():
                _check_file(path / name, entry)
            _check_nothing_added(path, manifest)
        except OSError as error:
            raise ArtifactError(
                f"{error.filename or path}: can't be read: {error.strerror or error}"
            ) from error
        target = manifest.target
        if target.name == "xnnpack" and target.version.split(".")[:2] != EXECUTORCH.split("."):
            raise ArtifactError(
                f"{path}: made for ExecuTorch {target.version}, this version of effine "
                f"runs {EXECUTORCH}; export it again"
            )
        return cls(path, manifest)

    @property
    def tokenizer_path(self) -> Path:
        """The Hugging Face tokenizer file."""
        return self.file(TOKENIZER)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists.

        Raises:
            ArtifactError: it lists no such file.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path}: the artifact has no {name}; {_AGAIN}")
        return self.path / name

    def initial_state(self) -> Arrays:
        """The exported parameters with zero moments, in manifest order; a new copy each time.

        Raises:
            ArtifactError: the file isn't what the manifest's state says.
        """
        parameters, _ = self._tensors(STATE)
        try:
            return initial_state(self.manifest, parameters)
        except StateError as error:
            raise ArtifactError(f"{self.path}/{STATE}: {error}; {_AGAIN}") from error

    def golden(self) -> Arrays:
        """The golden run's tensors.

        Raises:
            ArtifactError: the file can't be read.
        """
        return self.golden_with_metadata()[0]

    def golden_with_metadata(self) -> tuple[Arrays, dict[str, str]]:
        """The golden run's tensors and what is said about them.

        Raises:
            ArtifactError: the file can't be read.
        """
        return self._tensors(GOLDEN)

    def _tensors(self, name: str) -> tuple[Arrays, dict[str, str]]:
        try:
            return read_tensors(self.file(name))
        except StateError as error:
            raise ArtifactError(f"{error}; {_AGAIN}") from error


def write_artifact(folder: Path, manifest: Manifest) -> Manifest:
    """Complete a folder that has all other files with its manifest.

    Args:
        folder: holds every file of the artifact but `manifest.json`.
        manifest: its `files` and `sha256` are ignored.

    Returns:
        The manifest as written, with the size and SHA-256 of every file.

    Raises:
        ArtifactError: the folder holds something other than plain files, or the manifest
            would not be read back.
        StateError: the manifest can't be written.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.name not in RESERVED_FILES)
    files = {name: FileEntry(_size(folder / name), _sha256(folder / name)) for name in names}
    complete = dataclasses.replace(manifest, files=files)
    try:
        text = complete.to_json()
        content = text.encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}/{MANIFEST}: can't be expressed as JSON: {error}") from error
    written = Manifest.from_json(text)
    with atomic_write(folder / MANIFEST) as file:
        file.write(content)
    return written


def _read_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such artifact directory")
    file = path / MANIFEST
    if not os.path.lexists(file):
        raise ArtifactError(f"{path}: not an artifact: it has no {MANIFEST}")
    if _size(file) > MAX_MANIFEST:
        raise ArtifactError(f"{file}: larger than {MAX_MANIFEST} bytes; {_AGAIN}")
    try:
        return Manifest.from_json(file.read_bytes().decode())
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file}: damaged: not UTF-8; {_AGAIN}") from error
    except ArtifactError as error:
        raise ArtifactError(f"{path}/{error}") from error


def _check_file(path: Path, entry: FileEntry) -> None:
    if not os.path.lexists(path):
        raise ArtifactError(f"{path}: missing; {_AGAIN}")
    size = _size(path)
    if size != entry.size:
        raise ArtifactError(f"{path}: has {size} bytes, not {entry.size}; {_AGAIN}")
    if _sha256(path) != entry.sha256:
        raise ArtifactError(f"{path}: damaged: its bytes don't give its sha256; {_AGAIN}")


def _check_nothing_added(path: Path, manifest: Manifest) -> None:
    for entry in sorted(path.iterdir()):
        if entry.name == REPORTS and entry.is_dir() and not entry.is_symlink():
            continue
        if entry.name == SIGNATURE:
            _size(entry)
        elif entry.name != MANIFEST and entry.name not in manifest.files:
            raise ArtifactError(f"{entry}: isn't part of the artifact; remove it")


def _size(path: Path) -> int:
    """The size of a plain file; anything else is refused."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
        raise ArtifactError(f"{path}: is {kind}; {_AGAIN}")
    return status.st_size


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
