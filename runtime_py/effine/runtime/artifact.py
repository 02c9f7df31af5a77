"""An artifact on disk: verified before a byte of it is used, and written by the exporter."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from effine.runtime.engines import WEIGHT_FILES, Arrays
from effine.runtime.errors import ArtifactError, StateError
from effine.runtime.files import AGAIN, plain_size, read_plain, sha256_of
from effine.runtime.manifest import Manifest
from effine.runtime.manifest_checks import RESERVED_FILES
from effine.runtime.manifest_fields import FileEntry
from effine.runtime.signing import PublicKey
from effine.runtime.state import initial_state
from effine.runtime.tensors import atomic_write, read_tensors

EXECUTORCH = "1.5"
MANIFEST, SIGNATURE, REPORTS = RESERVED_FILES
STATE = "state.safetensors"
GOLDEN = "golden.safetensors"
INITIAL = "initial"
TOKENIZER = "tokenizer.json"
BACKBONES = "backbones"
MAX_MANIFEST = 64 * 2**20
_Parsed = TypeVar("_Parsed")


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
    def open(cls, path: Path | str, public_key: PublicKey | None = None) -> Self:
        """Verify an artifact: the manifest first, then every file, then that nothing is added.

        Args:
            path: its directory, alone or in a bundle.
            public_key: the manifest must carry its signature. Without a key damage is
                detected, but not intent.

        Raises:
            ArtifactError: naming the file that is damaged, missing or additional, or the
                version that doesn't fit.
        """
        path = Path(path)
        try:
            manifest = _read_manifest(path, public_key)
            for name, entry in manifest.files.items():
                _check_file(_place(path, name, entry), entry)
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
        """The path of a file that the manifest lists; weights may be the bundle's.

        Raises:
            ArtifactError: it lists no such file.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path}: the artifact has no {name}; {AGAIN}")
        return _place(self.path, name, self.manifest.files[name])

    def initial_state(self) -> Arrays:
        """The exported parameters with zero moments, in manifest order; a new copy each time.

        Raises:
            ArtifactError: the file isn't what the manifest's state says.
        """
        parameters, _ = self._tensors(STATE)
        try:
            return initial_state(self.manifest, parameters)
        except StateError as error:
            raise ArtifactError(f"{self.path}/{STATE}: {error}; {AGAIN}") from error

    def golden(self) -> Arrays:
        """The golden run's tensors.

        Raises:
            ArtifactError: the file can't be read.
        """
        return self.golden_with_metadata()[0]

    def golden_with_metadata(self) -> tuple[Arrays, dict[str, str]]:
        """The golden run's tensors and what is said about them.

        A short run starts from the initial parameters, which its file doesn't repeat.

        Raises:
            ArtifactError: the file can't be read.
        """
        golden, metadata = self._tensors(GOLDEN)
        if metadata.get("start") == INITIAL:
            initial = self.initial_state()
            golden |= {f"start.{e.name}": initial[e.name] for e in self.manifest.parameters}
        return golden, metadata

    def _tensors(self, name: str) -> tuple[Arrays, dict[str, str]]:
        try:
            return read_tensors(self.file(name))
        except StateError as error:
            raise ArtifactError(f"{error}; {AGAIN}") from error


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
    files = {name: FileEntry(plain_size(folder / name), sha256_of(folder / name)) for name in names}
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


def _read_manifest(path: Path, public_key: PublicKey | None) -> Manifest:
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such artifact directory")
    file = path / MANIFEST
    if not os.path.lexists(file):
        raise ArtifactError(f"{path}: not an artifact: it has no {MANIFEST}")
    return read_signed(file, MAX_MANIFEST, SIGNATURE, public_key, Manifest.from_json, AGAIN)


def read_signed(
    file: Path,
    most: int,
    signature: str,
    public_key: PublicKey | None,
    parse: Callable[[str], _Parsed],
    remedy: str,
) -> _Parsed:
    """Read a JSON file whose signature, if it is asked for, lies beside it.

    Raises:
        ArtifactError: it is larger than `most` bytes, damaged or unsigned.
    """
    content = read_plain(file, most)
    if public_key is not None:
        public_key.check(file, content, file.with_name(signature))
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file}: damaged: not UTF-8; {remedy}") from error
    except ArtifactError as error:
        raise ArtifactError(f"{file.parent}/{error}") from error


def _place(folder: Path, name: str, entry: FileEntry) -> Path:
    """Where a file is: in the artifact, or, weights of a bundle, beside it under their hash."""
    own = folder / name
    if name not in WEIGHT_FILES.values() or os.path.lexists(own):
        return own
    shared = folder.resolve().parent / BACKBONES / f"{entry.sha256}{own.suffix}"
    return shared if os.path.lexists(shared) else own


def _check_file(path: Path, entry: FileEntry) -> None:
    size = plain_size(path)
    if size != entry.size:
        raise ArtifactError(f"{path}: has {size} bytes, not {entry.size}; {AGAIN}")
    if sha256_of(path) != entry.sha256:
        raise ArtifactError(f"{path}: damaged: its bytes don't give its sha256; {AGAIN}")


def _check_nothing_added(path: Path, manifest: Manifest) -> None:
    for entry in sorted(path.iterdir()):
        if entry.name == REPORTS and entry.is_dir() and not entry.is_symlink():
            continue
        if entry.name == SIGNATURE:
            plain_size(entry)
        elif entry.name != MANIFEST and entry.name not in manifest.files:
            raise ArtifactError(f"{entry}: isn't part of the artifact; remove it")
