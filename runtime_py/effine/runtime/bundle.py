"""Bundles: several artifacts over one backbone, as an app ships or installs them.

A bundle is a folder with

- `bundle.json`: its version, whether parity vouches for it, and its artifacts by the name of
  their folder, each with the hash of its manifest; `bundle.sig` is its signature.
- `backbones/SHA256.ptd`: frozen weights, each once. An artifact without its own `backbone.ptd`
  finds it here by the hash in its manifest.
- a folder for each artifact.

A folder that bundles are installed into has them side by side; `current` names one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from effine.runtime.artifact import BACKBONES, Artifact, read_signed
from effine.runtime.codec import (
    FormatError,
    Hash,
    between,
    decode,
    encode,
    is_sealed,
    matching,
    parse,
    seal,
)
from effine.runtime.engines import WEIGHT_FILES
from effine.runtime.errors import ArtifactError
from effine.runtime.files import read_plain
from effine.runtime.signing import PublicKey
from effine.runtime.trainer import Trainer

if TYPE_CHECKING:
    from effine.runtime.engines.executorch import Loaded

SCHEMA = 1
INFO, SIGNATURE, CURRENT = "bundle.json", "bundle.sig", "current"
MAX_INFO = 2**20
MAX_VERSION = 2**31 - 1
_AGAIN = "pack it again"
FolderName = Annotated[
    str,
    matching(
        rf"(?!.*\.\.)(?!({BACKBONES}|bundle\.json|bundle\.sig)$)[A-Za-z0-9][A-Za-z0-9_.-]{{0,99}}",
        "a plain folder name",
    ),
]


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """What a bundle holds.

    Args:
        version: set by who packs it; an update must not have a lower one.
        verified: whether a parity report vouches for each artifact.
        artifacts: the hash of each one's manifest, by folder.
        sha256: of the file itself, with zeros in its place.
    """

    schema: int = SCHEMA
    version: Annotated[int, between(1, MAX_VERSION)]
    verified: bool
    artifacts: dict[str, Hash]
    sha256: Hash = "0" * 64

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `bundle.json` strictly.

        Raises:
            ArtifactError: it is damaged, or newer than this version.
        """
        if not is_sealed(text):
            raise ArtifactError(f"{INFO}: damaged: its bytes don't give its own sha256; {_AGAIN}")
        try:
            document = parse(text)
            schema = document.get("schema") if isinstance(document, dict) else None
            if schema != SCHEMA:
                raise ArtifactError(f"{INFO}: schema {schema} is unknown; update effine")
            info: Self = decode(cls, document, "")
            for name in info.artifacts:
                decode(FolderName, name, "artifacts")
        except FormatError as error:
            raise ArtifactError(f"{INFO}: {error}") from error
        return info

    def to_json(self) -> str:
        """The file's text, with the SHA-256 that belongs to it."""
        return seal(encode(self))


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been verified.

    Args:
        path: its folder.
        info: what `bundle.json` says.
        artifacts: by the name of their folder.
    """

    path: Path
    info: BundleInfo
    artifacts: dict[str, Artifact]
    _loaded: Loaded = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str, public_key: PublicKey | None = None) -> Self:
        """Verify a bundle and all of its artifacts.

        Args:
            path: its folder, or one that bundles are installed into.
            public_key: the bundle and each artifact must carry its signature.

        Raises:
            ArtifactError: naming the file that is damaged, missing or additional.
        """
        folder = current(Path(path)) or Path(path)
        try:
            info = read_info(folder, public_key)
            artifacts = {
                name: _open_artifact(folder / name, sha256, public_key)
                for name, sha256 in info.artifacts.items()
            }
            _check_nothing_added(folder, artifacts)
        except OSError as error:
            raise ArtifactError(
                f"{error.filename or folder}: can't be read: {error.strerror or error}"
            ) from error
        return cls(folder, info, artifacts)

    def trainer(self, name: str, *, threads: int | None = None, **options: Any) -> Trainer:
        """A trainer for an artifact; programs that others of the bundle use are loaded once.

        Args:
            name: the artifact's folder.
            threads: as for `Trainer`; those of the first trainer hold for all of the bundle.
            options: of `Trainer`.

        Raises:
            ArtifactError: the bundle has no such artifact.
        """
        from effine.runtime.engines.executorch import ExecuTorchEngine

        artifact = self.artifacts.get(name)
        if artifact is None:
            raise ArtifactError(f"{self.path}: has no {name}, but {', '.join(self.artifacts)}")
        engine = ExecuTorchEngine(artifact, None if self._loaded else threads, self._loaded)
        return Trainer(artifact, engine=engine, **options)


def current(home: Path) -> Path | None:
    """The bundle that is in use among those installed into a folder, if any is.

    Raises:
        ArtifactError: what names it is damaged.
    """
    pointer = home / CURRENT
    if not os.path.lexists(pointer):
        return None
    name = read_plain(pointer, 65).decode("ascii", "replace")
    try:
        decode(Hash, name, CURRENT)
    except FormatError as error:
        raise ArtifactError(f"{home}/{error}; install the bundle again") from error
    return home / name


def read_info(folder: Path, public_key: PublicKey | None) -> BundleInfo:
    """Read what a bundle says of itself, and check its signature.

    Raises:
        ArtifactError: it is damaged, unsigned, or no bundle.
    """
    file = folder / INFO
    if not os.path.lexists(file):
        raise ArtifactError(f"{folder}: not a bundle: it has no {INFO}")
    return read_signed(file, MAX_INFO, SIGNATURE, public_key, BundleInfo.from_json, _AGAIN)


def _open_artifact(path: Path, sha256: str, public_key: PublicKey | None) -> Artifact:
    if path.is_symlink():
        raise ArtifactError(f"{path}: is a symbolic link; {_AGAIN}")
    artifact = Artifact.open(path, public_key)
    if artifact.manifest.sha256 != sha256:
        raise ArtifactError(f"{path}: isn't the artifact that {INFO} names; {_AGAIN}")
    return artifact


def _check_nothing_added(folder: Path, artifacts: dict[str, Artifact]) -> None:
    weights = folder / BACKBONES
    if weights.is_symlink():
        raise ArtifactError(f"{weights}: is a symbolic link; {_AGAIN}")
    shared = {
        artifact.file(WEIGHT_FILES[artifact.manifest.target.name]).name
        for artifact in artifacts.values()
    }
    known = {INFO, SIGNATURE, BACKBONES, *artifacts}
    entries = [entry for entry in sorted(folder.iterdir()) if entry.name not in known]
    if weights.is_dir():
        entries += [entry for entry in sorted(weights.iterdir()) if entry.name not in shared]
    for entry in entries:
        raise ArtifactError(f"{entry}: isn't part of the bundle; remove it")
