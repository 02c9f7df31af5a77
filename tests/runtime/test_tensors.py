"""Tensor files: canonical bytes, a strict reader, and writes that happen wholly or not at all."""

from __future__ import annotations

import errno
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from effine.runtime.errors import StateError
from effine.runtime.tensors import atomic_write, read_tensors, write_tensors

TENSORS = {
    "z": np.arange(6, dtype=np.float32).reshape(2, 3) / 3,
    "a": np.array([-0.0, 5e-324, 1.7e308]),
    "counts": np.array([[-(2**62)]]),
    "small": np.array([7], np.int32),
    "bytes": np.array([0, 255, 3], np.uint8),
    "scalar": np.array(2.5, np.float32),
}
METADATA = {"zeta": 'größe "x"\n', "alpha": "12"}


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def identical(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return list(left) == list(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left.values(), right.values(), strict=True)
    )


def test_round_trip_keeps_bits_order_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, METADATA)
    tensors, metadata = read_tensors(path)
    assert identical(tensors, TENSORS)
    assert metadata == METADATA
    tensors["z"][0, 0] = 1


def test_bytes_are_canonical(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(
        path, {"b": np.array([1.0], np.float32), "a": np.array([2], np.uint8)}, {"k": "ö"}
    )
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert (8 + length) % 64 == 0
    assert raw[8 : 8 + length].rstrip(b" ").decode() == (
        '{"__metadata__":{"k":"ö"},"a":{"data_offsets":[4,5],"dtype":"U8","shape":[1]},'
        '"b":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}}'
    )
    assert raw[8 + length :] == b"\x00\x00\x80\x3f\x02"


def test_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for index, same in enumerate((array, np.asfortranarray(array), array.astype(">f4"))):
        write_tensors(tmp_path / str(index), {"x": same}, {})
    assert len({(tmp_path / str(i)).read_bytes() for i in range(3)}) == 1


def test_safetensors_library_agrees(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_tensors(ours, TENSORS, METADATA)
    with safetensors.safe_open(ours, "np") as file:
        assert file.metadata() == METADATA
        loaded = {name: file.get_tensor(name) for name in TENSORS}
    assert identical(loaded, TENSORS)
    safetensors.numpy.save_file(TENSORS, theirs, METADATA)
    tensors, metadata = read_tensors(theirs)
    assert identical({name: tensors[name] for name in TENSORS}, TENSORS)
    assert metadata == METADATA


F32 = entry("F32", [1], 0, 4)
BAD_FILES = {
    "header longer than the file": struct.pack("<Q", 50) + b"{}",
    "absurd header": struct.pack("<Q", 2**63) + b"{}",
    "no header": b"\x01",
    "empty": b"",
}
BAD_HEADERS: dict[str, tuple[Any, bytes]] = {
    "not JSON": (b"{nonsense", b""),
    "not UTF-8": (b'{"\xff":1}', b""),
    "not an object": (b"[]", b""),
    "leading space": (b" {}", b""),
    "nested deeply": (b'{"a":' + b"[" * 100_000, b""),
    "duplicate name": (b'{"a":%b,"a":%b}' % ((json.dumps(F32).encode(),) * 2), bytes(4)),
    "lone surrogate": (b'{"__metadata__":{"a":"\\ud800"}}', b""),
    "unknown dtype": ({"a": entry("BF16", [2], 0, 4)}, bytes(4)),
    "overlap": ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, bytes(8)),
    "same place": ({"a": F32, "b": F32}, bytes(4)),
    "hole": ({"a": F32, "b": entry("F32", [1], 8, 12)}, bytes(12)),
    "hole at the start": ({"a": entry("F32", [1], 4, 8)}, bytes(8)),
    "trailing bytes": ({"a": F32}, bytes(5)),
    "truncated": ({"a": F32}, bytes(3)),
    "wrong count": ({"a": entry("F32", [2], 0, 4)}, bytes(4)),
    "negative size": ({"a": entry("F32", [-1, -1], 0, 4)}, bytes(4)),
    "no elements": ({"a": entry("F32", [0], 0, 0)}, b""),
    "backwards": ({"a": entry("F32", [1], 4, 0)}, bytes(4)),
    "float offset": ({"a": entry("F32", [1], 0, 4.0)}, bytes(4)),  # type: ignore[arg-type]
    "boolean shape": ({"a": entry("F32", [True], 0, 4)}, bytes(4)),
    "absurd shape": ({"a": entry("F32", [2**40, 2**40], 0, 4)}, bytes(4)),
    "high rank": ({"a": entry("F32", [1] * 9, 0, 4)}, bytes(4)),
    "unknown key": ({"a": F32 | {"extra": 1}}, bytes(4)),
    "missing key": ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "metadata not strings": ({"__metadata__": {"a": 1}}, b""),
    "NaN": ({"a": F32}, struct.pack("<f", float("nan"))),
    "infinity": ({"a": entry("F64", [1], 0, 8)}, struct.pack("<d", float("-inf"))),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_reader_rejects_files_without_a_header(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(BAD_FILES[problem])
    with pytest.raises(StateError, match=r"bad: not a usable safetensors file: a header of"):
        read_tensors(path)


@pytest.mark.parametrize("problem", BAD_HEADERS)
def test_reader_rejects(tmp_path: Path, problem: str) -> None:
    path = raw_file(tmp_path / "bad", *BAD_HEADERS[problem])
    with pytest.raises(StateError, match="bad: not a usable safetensors file: ") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_reader_accepts_what_the_bad_cases_vary(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "good", {"b": entry("F64", [1], 4, 12), "a": F32}, bytes(12))
    assert list(read_tensors(path)[0]) == ["a", "b"]


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nothing: can't be read: No such file"):
        read_tensors(tmp_path / "nothing")


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan], np.float32),
        np.array([np.inf]),
        np.array(["text"]),
        np.array([1], np.float16),
        np.zeros((0, 2), np.float32),
    ],
    ids=str,
)
def test_writer_refuses_and_keeps_the_old_file(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StateError, match="'bad'"):
        write_tensors(path, {"good": np.ones(1), "bad": array}, {})
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_writer_refuses_text_that_is_not_unicode(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="Unicode"):
        write_tensors(tmp_path / "x", {}, {"label": "\ud800"})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["os.replace", "os.fsync"])
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, reason: int
) -> None:
    path = tmp_path / "x"
    write_tensors(path, TENSORS, {})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(call, fail)
    with pytest.raises(StateError, match=os.strerror(reason)) as caught:
        write_tensors(path, {"other": np.zeros(3)}, {})
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x"]


def test_read_only_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StateError, match="x: can't be written: Permission denied"):
        write_tensors(tmp_path / "x", TENSORS, {})


def test_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="can't be written: No such file"):
        write_tensors(tmp_path / "nowhere" / "x", TENSORS, {})


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_not_a_regular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(os.devnull)
    before = path.lstat()
    with pytest.raises(StateError, match=r"x: can't be written: not a regular file$"):
        write_tensors(path, TENSORS, {})
    assert path.lstat() == before
    assert os.listdir(tmp_path) == ["x"]


def test_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_process_left_is_removed_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    abandoned, recent, other = (
        tmp_path / name for name in (".x.aaaaaaaa.tmp", ".x.bbbbbbbb.tmp", ".y.aaaaaaaa.tmp")
    )
    for leftover in (abandoned, recent, other):
        leftover.write_bytes(b"half")
    long_ago = time.time() - 3600
    os.utime(abandoned, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == [".x.bbbbbbbb.tmp", ".y.aaaaaaaa.tmp", "x"]
