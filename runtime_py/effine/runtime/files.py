"""Plain files that are checked before they are used."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from effine.runtime.errors import ArtifactError

AGAIN = "copy the artifact anew or export it again"


def plain_size(path: Path) -> int:
    """The size of a plain file in bytes.

    Raises:
        ArtifactError: it is missing, a link, a folder or a device.
    """
    if not os.path.lexists(path):
        raise ArtifactError(f"{path}: missing; {AGAIN}")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
        raise ArtifactError(f"{path}: is {kind}; {AGAIN}")
    return status.st_size


def read_plain(path: Path, limit: int) -> bytes:
    """The bytes of a plain file.

    Raises:
        ArtifactError: it isn't one, or is larger than `limit` bytes.
    """
    if plain_size(path) > limit:
        raise ArtifactError(f"{path}: larger than {limit} bytes; {AGAIN}")
    return path.read_bytes()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
