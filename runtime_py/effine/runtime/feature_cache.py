"""The feature cache: what the backbone returned for a sample, kept in a file.

The file may be deleted at any time. A damaged or half-written record costs a
recomputation, never a wrong result.

Layout: 8 bytes magic, 32 bytes key of the backbone program, of the state that it reads and of the
precision; then records of
32 bytes sample key, 4 bytes number of tokens, 4 bytes CRC-32 of the rest of the record, and the
payload, see `packing`. Integers are little-endian.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import WEIGHT_FILES
from effine.runtime.errors import StateError
from effine.runtime.packing import Packing
from effine.runtime.phases import TRAIN

MAGIC = b"EFFCACH2"
DEFAULT_BOUND = 512_000_000
_RECORD = struct.Struct("<32sII")
_START = len(MAGIC) + 32
NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})


class FeatureCache:
    """Payloads by sample, bounded in bytes; beyond the bound nothing more is stored.

    Args:
        path: the cache file, made if missing; one of another backbone or precision is replaced.
        artifact: whose backbone program computes the features.
        packing: what a payload holds.
        bound: the largest size of the file in bytes.
        phase, held: the phase whose features these are, and the tensors of the state that its
            backbone reads.

    Raises:
        StateError: the file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        artifact: Artifact,
        packing: Packing,
        bound: int = DEFAULT_BOUND,
        phase: str = TRAIN,
        held: Mapping[str, np.ndarray] = NOTHING,
    ) -> None:
        self.bound = bound
        self.refused: set[bytes] = set()
        """The samples that were not stored."""
        self._packing = packing
        self._longest = artifact.manifest.tokens.max_length
        self._places: dict[bytes, tuple[int, int]] = {}
        try:
            key = cache_key(artifact, packing.precision, phase, held)
            self._file = self._open(path, MAGIC + key)
            self.size = self._scan()
        except OSError as error:
            raise StateError(
                f"{path}: can't be a feature cache: {error.strerror or error}; "
                "choose another --cache"
            ) from error

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, sample: bytes) -> bool:
        return sample in self._places

    def get(self, sample: bytes) -> bytes | None:
        """The stored payload of a sample, or None."""
        if sample not in self._places:
            return None
        position, tokens = self._places[sample]
        record = self._read(position, self.record_size(tokens))
        payload = record[_RECORD.size :]
        if record == _record(sample, tokens, payload):
            return payload
        del self._places[sample]
        return None

    def put(self, sample: bytes, tokens: int, payload: bytes) -> None:
        """Store the payload of a sample with so many tokens unless the bound is reached."""
        record = _record(sample, tokens, payload)
        if self.size + len(record) > self.bound:
            self.refused.add(sample)
            return
        if not self._write(self.size, record):
            self.bound = self.size
            self.refused.add(sample)
            return
        self._places[sample] = (self.size, tokens)
        self.size += len(record)

    def prefetch(self, samples: Iterable[bytes]) -> None:
        """Let the system read these samples' records ahead, where it can."""
        if not hasattr(os, "posix_fadvise"):
            return
        for position, tokens in filter(None, map(self._places.get, samples)):
            size = self.record_size(tokens)
            os.posix_fadvise(self._file.fileno(), position, size, os.POSIX_FADV_WILLNEED)

    def record_size(self, tokens: int) -> int:
        """Bytes of the record of a sample with so many tokens."""
        return _RECORD.size + self._packing.size(tokens)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _open(self, path: Path, start: bytes) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "r+b" if path.exists() else "w+b"
        self._file = cast(BinaryIO, open(path, mode, buffering=0))
        if self._read(0, _START) != start:
            self._file.truncate(0)
            if not self._write(0, start):
                self.bound = 0
        return self._file

    def _scan(self) -> int:
        """Index the whole records and cut off a broken tail; returns the size."""
        end = self._file.seek(0, os.SEEK_END)
        position = _START
        while len(header := self._read(position, _RECORD.size)) == _RECORD.size:
            sample, tokens, _ = _RECORD.unpack(header)
            if not 1 <= tokens <= self._longest or position + self.record_size(tokens) > end:
                break
            self._places[sample] = (position, tokens)
            position += self.record_size(tokens)
        self._file.truncate(min(position, end))
        return position

    def _read(self, position: int, size: int) -> bytes:
        """What is there, less than `size` if the file ends or the disk fails."""
        try:
            self._file.seek(position)
            return self._file.read(size)
        except OSError:
            return b""

    def _write(self, position: int, content: bytes) -> bool:
        try:
            self._file.seek(position)
            return self._file.write(content) == len(content)
        except OSError:
            return False


def cache_key(
    artifact: Artifact,
    precision: str,
    phase: str = TRAIN,
    held: Mapping[str, np.ndarray] = NOTHING,
) -> bytes:
    """Identifies the backbone program with all values it reads, and the precision."""
    manifest = artifact.manifest
    programs = {
        program.file
        for program in manifest.programs.values()
        if any(name.startswith("backbone_") for name in program.methods)
    }
    digest = hashlib.sha256()
    for name in (*sorted(programs), WEIGHT_FILES[manifest.target.name]):
        digest.update(bytes.fromhex(manifest.files[name].sha256))
    digest.update(precision.encode())
    if artifact.manifest.phases:
        digest.update(phase.encode())
        for array in held.values():
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def sample_key(tokens: Mapping[str, np.ndarray]) -> bytes:
    """Identifies a sample by its padded token inputs at batch 1."""
    digest = hashlib.sha256()
    for name in sorted(tokens):
        digest.update(name.encode() + np.ascontiguousarray(tokens[name]).tobytes())
    return digest.digest()


def _record(sample: bytes, tokens: int, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(sample + tokens.to_bytes(4, "little")))
    return _RECORD.pack(sample, tokens, crc) + payload
