"""The feature cache may lose records, never return a wrong one."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, Recorder, intents
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.feature_cache import FeatureCache, program_key
from effine.runtime.trainer import Trainer

START = 40
HEADER = struct.calcsize("<32sII")


@pytest.fixture
def head(artifact: Exported) -> Artifact:
    return artifact("head")


def features(artifact: Artifact, seq: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    _, method = artifact.manifest.backbone_method(1, seq)
    return {s.name: random.normal(size=s.shape).astype(np.float32) for s in method.outputs}


def key(number: int) -> bytes:
    return bytes([number]) * 32


def fill(path: Path, artifact: Artifact, count: int = 6) -> dict[bytes, Arrays]:
    """A cache file with records of alternating lengths; returns what it holds."""
    cache = FeatureCache(path, artifact)
    stored = {}
    for number in range(count):
        seq = artifact.manifest.shapes.seqs[number % 2]
        stored[key(number)] = features(artifact, seq, number)
        cache.put(key(number), seq, stored[key(number)])
    cache.close()
    return stored


def found(path: Path, artifact: Artifact, stored: Mapping[bytes, Arrays]) -> list[int]:
    """The numbers of the records that are still there, all of them right."""
    cache = FeatureCache(path, artifact)
    numbers = []
    for sample, expected in stored.items():
        features = cache.get(sample)
        if features is not None:
            assert all(np.array_equal(features[name], expected[name]) for name in expected)
            numbers.append(sample[0])
    assert cache.hits == len(numbers) and cache.misses == len(stored) - len(numbers)
    cache.close()
    return numbers


def record_size(artifact: Artifact, seq: int) -> int:
    return HEADER + sum(array.nbytes for array in features(artifact, seq, 0).values())


def test_records_survive_closing(head: Artifact, tmp_path: Path) -> None:
    stored = fill(tmp_path / "c", head)
    assert found(tmp_path / "c", head, stored) == [0, 1, 2, 3, 4, 5]
    assert FeatureCache(tmp_path / "c", head).get(key(9)) is None


def test_what_was_just_put_can_be_read(head: Artifact, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "c", head)
    for number in range(4):
        expected = features(head, 8, number)
        cache.put(key(number), 8, expected)
        read = cache.get(key(number))
        assert read is not None and all(np.array_equal(read[n], expected[n]) for n in expected)


def test_a_changed_payload_is_a_miss(head: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "c"
    stored = fill(path, head)
    content = bytearray(path.read_bytes())
    content[START + record_size(head, 8) + HEADER + 5] ^= 1
    path.write_bytes(content)
    assert found(path, head, stored) == [0, 2, 3, 4, 5]


def test_every_changed_byte_costs_records_only(head: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "c"
    stored = fill(path, head)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    headers = [*range(START + HEADER), *random.integers(0, len(whole), 60)]
    for position in headers:
        content = bytearray(whole)
        content[position] ^= 0x10
        path.write_bytes(content)
        assert len(found(path, head, stored)) < len(stored), position


@pytest.mark.parametrize("lost", [1, 7, 200])
def test_a_broken_tail_is_cut_off_and_written_over(
    head: Artifact, tmp_path: Path, lost: int
) -> None:
    path = tmp_path / "c"
    stored = fill(path, head)
    path.write_bytes(path.read_bytes()[:-lost])
    assert found(path, head, stored) == ([0, 1, 2, 3, 4] if lost < 200 else [0, 1, 2, 3])
    cache = FeatureCache(path, head)
    for number in (4, 5):
        cache.put(key(number), head.manifest.shapes.seqs[number % 2], stored[key(number)])
    cache.close()
    assert found(path, head, stored) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [0, 1, 8, 39, 40])
def test_a_file_cut_in_its_header_starts_anew(head: Artifact, tmp_path: Path, size: int) -> None:
    path = tmp_path / "c"
    stored = fill(path, head)
    path.write_bytes(path.read_bytes()[:size])
    assert found(path, head, stored) == []
    assert path.read_bytes()[:8] == b"EFFCACH1" and path.stat().st_size == START


def test_a_file_of_another_program_is_replaced(
    artifact: Exported, head: Artifact, tmp_path: Path
) -> None:
    other = artifact("read")
    assert program_key(other) != program_key(head)
    stored = fill(tmp_path / "c", other)
    assert found(tmp_path / "c", head, stored) == []
    assert found(tmp_path / "c", head, fill(tmp_path / "c", head)) == [0, 1, 2, 3, 4, 5]


def test_beyond_the_bound_nothing_is_stored(head: Artifact, tmp_path: Path) -> None:
    size = record_size(head, 8)
    bound = START + 3 * size
    cache = FeatureCache(tmp_path / "c", head, bound)
    for number in range(5):
        cache.put(key(number), 8, features(head, 8, number))
    assert cache.refused == 2
    assert [cache.get(key(n)) is not None for n in range(5)] == [True] * 3 + [False] * 2
    assert (tmp_path / "c").stat().st_size == bound


class FullDisk:
    """A file on a disk that takes `left` bytes more and then fails half-way through a write."""

    def __init__(self, file, left: int) -> None:
        self.file, self.left = file, left

    def write(self, content: bytes) -> int:
        if len(content) > self.left:
            self.file.write(content[: self.left])
            self.file.flush()
            raise OSError(28, "No space left on device")
        self.left -= len(content)
        return self.file.write(content)

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_a_full_disk_ends_storing_and_nothing_else(head: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = FeatureCache(path, head)
    cache._file = FullDisk(cache._file, 2 * record_size(head, 8) + HEADER + 3)
    stored = {key(n): features(head, 8, n) for n in range(5)}
    for sample, values in stored.items():
        cache.put(sample, 8, values)
    assert cache.refused == 3
    assert [cache.get(sample) is not None for sample in stored] == [True] * 2 + [False] * 3
    cache.close()
    assert found(path, head, stored) == [0, 1]


def test_training_with_a_damaged_cache_ends_in_the_same_state(
    head: Artifact, tmp_path: Path
) -> None:
    path = tmp_path / "c"
    states, counts = [], []
    for damage in (None, None, 0.3, 0.7, "tail"):
        if damage == "tail":
            path.write_bytes(path.read_bytes()[:-11])
        elif damage is not None:
            content = bytearray(path.read_bytes())
            content[int(damage * len(content))] ^= 0x40
            path.write_bytes(content)
        engine = Recorder(head)
        trainer = Trainer(head, engine=engine, cache=path)
        trainer.fit(intents(), epochs=2)
        states.append(trainer.state)
        counts.append(engine.count("backbone_"))
    assert counts[0] == len(intents()) and counts[1] == 0
    assert all(0 < count < len(intents()) for count in counts[2:])
    for state in states[1:]:
        assert all(state[name].tobytes() == states[0][name].tobytes() for name in state)
