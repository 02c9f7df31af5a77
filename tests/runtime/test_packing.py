"""Rounding of stored features, against vectors and plain Python arithmetic."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported
from effine.runtime.errors import StateError
from effine.runtime.packing import PRECISIONS, Packing, decode, encode, encoded_size

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/packing.json").read_text())


def single(number: float) -> float:
    """Rounded to float32; products and quotients of two of them are still exact in double."""
    return struct.unpack("<f", struct.pack("<f", number))[0]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["rows"][:8])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounding_agrees_with_the_vectors(case: dict[str, str], precision: str) -> None:
    rows = np.frombuffer(bytes.fromhex(case["rows"]), "<f4").reshape(-1, case["width"])
    payload = encode(rows, precision)
    assert payload.hex() == case[precision]
    read = decode(payload, len(rows), precision)
    if case[f"{precision}_read"] is None:
        assert np.isnan(read).all()
    else:
        assert read.astype("<f4").tobytes().hex() == case[f"{precision}_read"]


def test_fp16_is_what_struct_packs() -> None:
    rows = np.random.default_rng(0).normal(0, 100, (20, 50)).astype(np.float32)
    assert encode(rows, "fp16") == struct.pack("<1000e", *rows.ravel().tolist())


def test_int8_is_what_plain_arithmetic_gives() -> None:
    rows = np.random.default_rng(1).normal(0, 3, (20, 50)).astype(np.float32)
    read = decode(encode(rows, "int8"), 20, "int8")
    for row, found in zip(rows.tolist(), read.tolist(), strict=True):
        scale = single(max(map(abs, row)) / 127)
        assert found == [single(round(single(x / scale)) * scale) for x in row]
        assert max(abs(a - b) for a, b in zip(row, found, strict=True)) <= 0.501 * scale


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_finite_never_becomes_finite(precision: str) -> None:
    rows = np.ones((3, 4), np.float32)
    rows[0, 1], rows[2, 3] = math.nan, math.inf
    read = decode(encode(rows, precision), 3, precision)
    assert np.isfinite(read[1]).all()
    assert not np.isfinite(read[0]).all() and not np.isfinite(read[2]).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounding_twice_changes_nothing_more(precision: str) -> None:
    rows = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    once = decode(encode(rows, precision), 5, precision)
    np.testing.assert_allclose(decode(encode(once, precision), 5, precision), once, rtol=3e-7)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", ["head", "read"])
def test_only_valid_tokens_are_packed(artifact: Exported, method: str, precision: str) -> None:
    manifest = artifact(method, pooling="mean").manifest
    packing = Packing(manifest, precision)
    _, backbone = manifest.backbone_method(1, 8)
    random = np.random.default_rng(3)
    features = {s.name: random.normal(size=s.shape).astype(np.float32) for s in backbone.outputs}
    payload = packing.pack(features, 5)
    width, count = manifest.backbone.hidden, len(backbone.outputs)
    rows = 5 if method == "read" else 1
    assert len(payload) == packing.size(5) == count * encoded_size(rows, width, precision)
    read = packing.unpack(payload, 5)
    assert list(read) == list(features)
    for name, array in features.items():
        expected = decode(encode(array.reshape(-1, width)[:rows], precision), rows, precision)
        assert np.array_equal(read[name], expected)


def test_an_unknown_precision_is_refused(artifact: Exported) -> None:
    with pytest.raises(StateError, match="'int4' is unknown; use fp32, fp16, int8"):
        Packing(artifact("head").manifest, "int4")
