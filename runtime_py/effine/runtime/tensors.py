"""Tensor files: safetensors, written atomically in one canonical form and read strictly.

- Header: JSON, keys sorted by code point, no spaces, UTF-8 with only the escapes that
  JSON demands, padded with spaces so that the data start at a multiple of 64 bytes.
- Data: little-endian, in the given order, without holes. The same tensors are the same bytes.
- A file is replaced whole or not at all.
"""

from __future__ import annotations

import glob
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np

from effine.runtime.codec import (
    MAX_ELEMENTS,
    MAX_RANK,
    FormatError,
    Shape,
    canonical,
    decode,
    one_of,
    parse,
)
from effine.runtime.errors import StateError

Arrays = dict[str, np.ndarray]

MAX_HEADER = 100_000_000
ALIGNMENT = 64
_METADATA = "__metadata__"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_ABANDONED_SECONDS = 600

_Code = Annotated[str, one_of(*_DTYPES)]


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends well, and never before.

    The data are on the disk before the name points to them. After any failure `path`
    is what it was and nothing else is left behind; what a killed process left is removed
    by a later write.

    Raises:
        StateError: the folder or the disk doesn't take the file, or `path` is a folder,
            a device or anything else that isn't a regular file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise StateError(f"{path}: can't be written: not a regular file")
        _remove_abandoned(path)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StateError(
            f"{path}: can't be written: {error.strerror or error}; what was there is unchanged"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_tensors(
    path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write tensors in the given order, atomically.

    Args:
        path: the file, replaced if it exists.
        tensors: float32, float64, int64, int32 or uint8 arrays of any layout.
        metadata: strings by name.

    Raises:
        StateError: a value isn't finite, a dtype has no code, or the disk refuses the file.
    """
    path = Path(path)
    arrays = {name: _canonical_array(path, name, array) for name, array in tensors.items()}
    header = _header(path, arrays, metadata)
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for array in arrays.values():
            file.write(array.reshape(-1).view(np.uint8).data)


def read_tensors(path: Path | str) -> tuple[Arrays, dict[str, str]]:
    """Read a tensor file, in the order of its data.

    Returns:
        The tensors (writable, owned by the caller) and the metadata.

    Raises:
        StateError: the file is missing, malformed in any way, or holds NaN or infinity.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            entries, metadata = _read_header(file)
            return {name: _read_array(file, name, *entry) for name, entry in entries}, metadata
    except OSError as error:
        raise StateError(f"{path}: can't be read: {error.strerror or error}") from error
    except FormatError as error:
        raise StateError(f"{path}: not a usable safetensors file: {error}") from error


def _canonical_array(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    code = _CODES.get(array.dtype.newbyteorder("<"))
    named = name not in ("", _METADATA)
    if code is None or not named or not 0 < array.size <= MAX_ELEMENTS or array.ndim > MAX_RANK:
        raise StateError(f"{path}: {name!r} ({array.dtype} {array.shape}) can't be stored")
    if not _finite(array):
        raise StateError(f"{path}: {name!r} holds NaN or infinity and isn't stored")
    return np.asarray(array, _DTYPES[code], order="C")


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _header(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> bytes:
    table: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        code = _CODES[array.dtype.newbyteorder("<")]
        table[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    try:
        header = canonical(table).encode()
    except UnicodeEncodeError as error:
        raise StateError(f"{path}: a name or a metadata text isn't valid Unicode") from error
    return header + b" " * (-(8 + len(header)) % ALIGNMENT)


_Entry = tuple[str, tuple[int, ...]]


def _read_header(file: BufferedReader) -> tuple[list[tuple[str, _Entry]], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise FormatError(f"a header of {length} bytes in a file of {size}")
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise FormatError("the header isn't a JSON object")
    try:
        table = decode(dict[str, Any], parse(raw.decode()), "header")
    except UnicodeDecodeError as error:
        raise FormatError("the header isn't UTF-8") from error
    metadata = decode(dict[str, str], table.pop(_METADATA, {}), "metadata")
    placed = sorted((*_entry(name, entry), name) for name, entry in table.items())
    position = 0
    for begin, end, _, _, name in placed:
        if begin != position:
            raise FormatError(f"{name!r} overlaps another tensor or leaves a hole")
        position = end
    if position != size - 8 - length:
        raise FormatError(f"{size - 8 - length} bytes of data where {position} are described")
    return [(name, (code, shape)) for _, _, code, shape, name in placed], metadata


def _entry(name: str, value: Any) -> tuple[int, int, str, tuple[int, ...]]:
    where = repr(name)
    table = decode(dict[str, Any], value, where)
    if table.keys() != {"dtype", "shape", "data_offsets"} or not name:
        raise FormatError(f"{where}: wants dtype, shape and data_offsets, has {sorted(table)}")
    code = decode(_Code, table["dtype"], where)
    shape = decode(Shape, table["shape"], where)
    offsets = decode(tuple[int, ...], table["data_offsets"], where)
    count = math.prod(shape) * _DTYPES[code].itemsize
    if len(offsets) != 2 or offsets[0] < 0 or offsets[1] - offsets[0] != count:
        raise FormatError(f"{where}: {code} {list(shape)} doesn't fill bytes {list(offsets)}")
    return offsets[0], offsets[1], code, shape


def _read_array(file: BufferedReader, name: str, code: str, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, _DTYPES[code])
    if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
        raise FormatError(f"{name!r} ends early")
    if not _finite(array):
        raise FormatError(f"{name!r} holds NaN or infinity")
    return array


def _remove_abandoned(path: Path) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
            leftover.unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename durable; some file systems can't, and the new file is in place anyway."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
