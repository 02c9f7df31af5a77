"""The feature cache: what the backbone returned for a sample, kept in a file.

The file may be deleted at any time. A damaged or half-written record costs a
recomputation, never a wrong result.

Layout: 8 bytes magic, 32 bytes key of the backbone program; then records of
32 bytes sample key, 4 bytes sequence length, 4 bytes CRC-32 of the payload, payload
(the features in program order, float32, little-endian).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.manifest import TensorSpec

MAGIC = b"EFFCACH1"
DEFAULT_BOUND = 512 * 2**20
_RECORD = struct.Struct("<32sII")
_START = len(MAGIC) + 32


class FeatureCache:
    """Features by sample, bounded in bytes; beyond the bound nothing more is stored.

    Args:
        path: the cache file, made if missing; a file of another backbone is replaced.
        artifact: whose backbone program computes the features.
        bound: the largest size of the file in bytes.
    """

    def __init__(self, path: Path, artifact: Artifact, bound: int = DEFAULT_BOUND) -> None:
        self.path = path
        self.bound = bound
        self.hits = 0
        self.misses = 0
        self.refused = 0
        self._artifact = artifact
        self._places: dict[bytes, tuple[int, int]] = {}
        self._map: mmap.mmap | None = None
        self._file = self._open(program_key(artifact))
        self._size = self._scan()

    def get(self, sample: bytes) -> Arrays | None:
        """The stored features of a sample at batch 1, or None."""
        place = self._places.get(sample)
        payload = None if place is None else self._read(*place)
        if place is None or payload is None:
            self._places.pop(sample, None)
            self.misses += 1
            return None
        self.hits += 1
        features, position = {}, 0
        for spec in self._specs(place[1]):
            count = int(np.prod(spec.shape))
            array = np.frombuffer(payload, np.float32, count, position)
            features[spec.name] = array.reshape(spec.shape)
            position += 4 * count
        return features

    def put(self, sample: bytes, seq: int, features: Mapping[str, np.ndarray]) -> None:
        """Store the features of a sample at batch 1 unless the bound is reached."""
        payload = b"".join(features[s.name].astype("<f4").tobytes() for s in self._specs(seq))
        record = _RECORD.pack(sample, seq, zlib.crc32(payload)) + payload
        if self._size + len(record) > self.bound:
            self.refused += 1
            return
        try:
            self._file.seek(self._size)
            self._file.write(record)
            self._file.flush()
        except OSError:
            self.bound = self._size
            self.refused += 1
            return
        self._places[sample] = (self._size + _RECORD.size, seq)
        self._size += len(record)

    def close(self) -> None:
        """Release the file."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self._file.close()

    def _specs(self, seq: int) -> tuple[TensorSpec, ...]:
        return self._artifact.manifest.backbone_method(1, seq)[1].outputs

    def _payload_size(self, seq: int) -> int:
        return sum(4 * int(np.prod(spec.shape)) for spec in self._specs(seq))

    def _open(self, key: bytes):  # type: ignore[no-untyped-def]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "r+b" if self.path.exists() else "w+b")
        if file.read(_START) != MAGIC + key:
            file.seek(0)
            file.truncate()
            file.write(MAGIC + key)
            file.flush()
        return file

    def _scan(self) -> int:
        """Index the whole records; a broken tail is cut off."""
        end = self.path.stat().st_size
        position = _START
        known = set(self._artifact.manifest.shapes.seqs)
        while position + _RECORD.size <= end:
            self._file.seek(position)
            sample, seq, _ = _RECORD.unpack(self._file.read(_RECORD.size))
            if seq not in known or position + _RECORD.size + self._payload_size(seq) > end:
                break
            self._places[sample] = (position + _RECORD.size, seq)
            position += _RECORD.size + self._payload_size(seq)
        self._file.truncate(position)
        return position

    def _read(self, position: int, seq: int) -> bytes | None:
        size = self._payload_size(seq)
        if self._map is None or len(self._map) < position + size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        payload = self._map[position : position + size]
        _, _, crc = _RECORD.unpack(self._map[position - _RECORD.size : position])
        return payload if zlib.crc32(payload) == crc else None


def program_key(artifact: Artifact) -> bytes:
    """Identifies the backbone program with all values it reads."""
    files = artifact.manifest.files
    digest = hashlib.sha256()
    for name in ("backbone.pte", "backbone.ptd"):
        digest.update(bytes.fromhex(files[name].sha256))
    return digest.digest()


def sample_key(tokens: Mapping[str, np.ndarray]) -> bytes:
    """Identifies a sample by its padded token inputs at batch 1."""
    digest = hashlib.sha256()
    for name in sorted(tokens):
        digest.update(name.encode() + np.ascontiguousarray(tokens[name]).tobytes())
    return digest.digest()
