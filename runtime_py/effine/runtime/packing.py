"""Features as the cache stores them: valid tokens only, in fp32, fp16 or int8.

A payload holds the features in program order. A feature [1, S, d] gives one row for each of the
sample's tokens, a feature [1, d] gives one row; what stands at padding is dropped and read back
as zeros. Rows of width d are, little-endian:

- fp32: as they are.
- fp16: rounded half to even; beyond the range they become infinite.
- int8: first the scales of all rows as float32, then the rows as int8. A row's scale is its
  largest magnitude / 127, a value is x / scale, rounded half to even and limited to +-127, and
  reads back as value * scale, all in float32. A row with scale 0 is stored as zeros. So is one
  with a value that isn't finite, and as its scale isn't either, it reads back as NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from effine.runtime.engines import Arrays
from effine.runtime.errors import StateError
from effine.runtime.manifest import Manifest

PRECISIONS = ("fp32", "fp16", "int8")
_FLOATS: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}


class Packing:
    """Turns the features of a sample into bytes and back.

    Args:
        manifest: says which features there are.
        precision: one of `PRECISIONS`.

    Raises:
        StateError: the precision is unknown.
    """

    def __init__(self, manifest: Manifest, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise StateError(
                f"cache precision {precision!r} is unknown; use {', '.join(PRECISIONS)}"
            )
        self.precision = precision
        self._manifest = manifest

    def pack(self, features: Mapping[str, np.ndarray], tokens: int) -> bytes:
        """The payload for features at batch 1, of a sample with so many tokens."""
        return b"".join(
            encode(features[name].reshape(-1, width)[:rows], self.precision)
            for name, rows, width in self._layout(tokens)
        )

    def unpack(self, payload: bytes, tokens: int) -> Arrays:
        """The rows [N, d] of each feature, N being `tokens` or 1."""
        features, start = {}, 0
        for name, rows, width in self._layout(tokens):
            end = start + encoded_size(rows, width, self.precision)
            features[name] = decode(payload[start:end], rows, self.precision)
            start = end
        return features

    def size(self, tokens: int) -> int:
        """Bytes of the payload for a sample with so many tokens."""
        layout = self._layout(tokens)
        return sum(encoded_size(rows, width, self.precision) for _, rows, width in layout)

    def _layout(self, tokens: int) -> Iterator[tuple[str, int, int]]:
        """Name, number of rows and their width, by feature."""
        _, method = self._manifest.backbone_method(1, self._manifest.seq_for(tokens))
        for spec in method.outputs:
            yield spec.name, tokens if spec.per_token else 1, spec.shape[-1]


def encoded_size(rows: int, width: int, precision: str) -> int:
    """Bytes of so many rows."""
    if precision == "int8":
        return rows * (4 + width)
    return rows * width * _FLOATS[precision].itemsize


def encode(rows: np.ndarray, precision: str) -> bytes:
    """Rows [N, d] float32 as bytes; the module describes the format."""
    if precision != "int8":
        with np.errstate(over="ignore"):
            return rows.astype(_FLOATS[precision]).tobytes()
    scales = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    usable = np.isfinite(scales) & (scales > 0)
    values = np.divide(rows, scales, out=np.zeros_like(rows), where=usable)
    limited = np.clip(np.rint(values), -127, 127).astype(np.int8)
    return scales.astype("<f4").tobytes() + limited.tobytes()


def decode(payload: bytes, rows: int, precision: str) -> np.ndarray:
    """The inverse of `encode`: [N, d] float32."""
    if precision != "int8":
        return np.frombuffer(payload, _FLOATS[precision]).reshape(rows, -1).astype(np.float32)
    scales = np.frombuffer(payload, "<f4", rows)
    values = np.frombuffer(payload, np.int8, offset=4 * rows).reshape(rows, -1)
    with np.errstate(invalid="ignore"):
        return values.astype(np.float32) * scales[:, None]
