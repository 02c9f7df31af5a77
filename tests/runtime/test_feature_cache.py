"""The feature cache may lose records, never return a wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported, Recorder, intents
from effine.runtime.artifact import Artifact
from effine.runtime.errors import StateError
from effine.runtime.feature_cache import FeatureCache, cache_key
from effine.runtime.packing import PRECISIONS, Packing
from effine.runtime.trainer import Trainer

START = 40
HEADER = 40


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def read(artifact: Exported) -> Artifact:
    """An artifact with features of each token, at two lengths."""
    return artifact("read", pooling="mean")


def opened(
    path: Path, artifact: Artifact, precision: str = "fp32", bound: int = 2**30
) -> FeatureCache:
    return FeatureCache(path, artifact, Packing(artifact.manifest, precision), bound)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def length(number: int) -> int:
    return 3 + 5 * number % 11


def payload(artifact: Artifact, precision: str, number: int) -> bytes:
    return np.random.default_rng(number).bytes(
        Packing(artifact.manifest, precision).size(length(number))
    )


def fill(
    path: Path, artifact: Artifact, precision: str = "fp32", numbers: range = range(6)
) -> dict[bytes, bytes]:
    """Put records of different lengths; returns what they hold."""
    cache = opened(path, artifact, precision)
    stored = {key(number): payload(artifact, precision, number) for number in numbers}
    for number in numbers:
        cache.put(key(number), length(number), stored[key(number)])
    cache.close()
    return stored


def found(
    path: Path, artifact: Artifact, stored: Mapping[bytes, bytes], precision: str = "fp32"
) -> list[int]:
    """The numbers of the records that are still there, all of them right."""
    cache = opened(path, artifact, precision)
    read = {sample: cache.get(sample) for sample in stored}
    cache.close()
    assert all(read[sample] in (None, expected) for sample, expected in stored.items())
    return [sample[0] for sample, content in read.items() if content is not None]


def test_records_survive_closing(read: Artifact, tmp_path: Path, precision: str) -> None:
    stored = fill(tmp_path / "c", read, precision)
    assert found(tmp_path / "c", read, stored, precision) == [0, 1, 2, 3, 4, 5]
    assert opened(tmp_path / "c", read, precision).get(key(9)) is None
    tokens = sum(length(number) for number in range(6))
    row = {"fp32": 4 * 32, "fp16": 2 * 32, "int8": 4 + 32}[precision]
    assert (tmp_path / "c").stat().st_size == START + 6 * HEADER + tokens * 2 * row


def test_what_was_just_put_can_be_read(read: Artifact, tmp_path: Path) -> None:
    cache = opened(tmp_path / "c", read)
    for number in range(4):
        content = payload(read, "fp32", number)
        cache.put(key(number), length(number), content)
        cache.prefetch([key(number), key(number + 1)])
        assert cache.get(key(number)) == content


def test_every_changed_byte_costs_records_only(
    read: Artifact, tmp_path: Path, precision: str
) -> None:
    path = tmp_path / "c"
    stored = fill(path, read, precision)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for position in [*range(START + HEADER), *random.integers(0, len(whole), 60)]:
        content = bytearray(whole)
        content[position] ^= 0x10
        path.write_bytes(content)
        assert len(found(path, read, stored, precision)) < len(stored), position


def test_a_record_of_another_sample_is_not_returned(read: Artifact, tmp_path: Path) -> None:
    """What happens when two processes write to the same file."""
    path = tmp_path / "c"
    first, second = opened(path, read), opened(path, read)
    for number, cache in ((0, first), (11, second)):
        cache.put(key(number), length(number), payload(read, "fp32", number))
    assert length(0) == length(11)
    assert first.get(key(0)) is None
    assert second.get(key(11)) == payload(read, "fp32", 11)


@pytest.mark.parametrize("lost", [1, 7, 1600])
def test_a_broken_tail_is_cut_off_and_written_over(
    read: Artifact, tmp_path: Path, lost: int
) -> None:
    path = tmp_path / "c"
    stored = fill(path, read)
    path.write_bytes(path.read_bytes()[:-lost])
    rest = found(path, read, stored)
    assert rest == ([0, 1, 2, 3, 4] if lost < 1600 else [0, 1, 2, 3])
    fill(path, read, numbers=range(len(rest), 6))
    assert found(path, read, stored) == [0, 1, 2, 3, 4, 5]


def test_zeros_behind_the_records_are_cut_off(read: Artifact, tmp_path: Path) -> None:
    """Some file systems leave them after a power cut."""
    path = tmp_path / "c"
    stored = fill(path, read)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(1000))
    assert found(path, read, stored) == [0, 1, 2, 3, 4, 5]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 1, 8, 39, 40])
def test_a_file_cut_in_its_header_starts_anew(read: Artifact, tmp_path: Path, size: int) -> None:
    path = tmp_path / "c"
    stored = fill(path, read)
    path.write_bytes(path.read_bytes()[:size])
    assert found(path, read, stored) == []
    assert path.read_bytes()[:8] == b"EFFCACH2" and path.stat().st_size == START


def test_a_file_of_version_1_is_replaced(read: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"EFFCACH1" + bytes(500))
    assert found(path, read, fill(path, read)) == [0, 1, 2, 3, 4, 5]


def test_a_file_of_another_program_or_precision_is_replaced(
    artifact: Exported, read: Artifact, tmp_path: Path
) -> None:
    other = artifact("head")
    assert cache_key(other, "fp32") != cache_key(read, "fp32")
    stored = fill(tmp_path / "c", other)
    assert found(tmp_path / "c", read, stored) == []
    assert found(tmp_path / "c", read, fill(tmp_path / "c", read)) == [0, 1, 2, 3, 4, 5]
    assert found(tmp_path / "c", read, stored, "fp16") == []


def test_beyond_the_bound_nothing_is_stored(read: Artifact, tmp_path: Path) -> None:
    sizes = [HEADER + len(payload(read, "fp32", number)) for number in range(5)]
    bound = START + sum(sizes[:3])
    cache = opened(tmp_path / "c", read, bound=bound)
    for _ in range(2):
        for number in range(5):
            if key(number) not in cache:
                cache.put(key(number), length(number), payload(read, "fp32", number))
    assert cache.refused == {key(3), key(4)}
    assert [cache.get(key(n)) is not None for n in range(5)] == [True] * 3 + [False] * 2
    assert (tmp_path / "c").stat().st_size == bound


def test_a_place_that_cannot_hold_a_cache_is_told(read: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "c"):
        with pytest.raises(StateError, match=r"can't be a feature cache: .*; choose another"):
            opened(path, read)


def test_a_full_disk_ends_storing_and_nothing_else(read: Artifact, small_disk: Path) -> None:
    path = small_disk / "c"
    cache = opened(path, read, "int8")
    stored = {key(n): payload(read, "int8", n) for n in range(250)}
    for number, (sample, content) in enumerate(stored.items()):
        cache.put(sample, length(number), content)
    kept = [sample[0] for sample in stored if sample not in cache.refused]
    assert 0 < len(kept) < 250 and kept == list(range(len(kept)))
    assert [sample[0] for sample in stored if cache.get(sample) is not None] == kept
    cache.close()
    assert path.stat().st_size > START + sum(HEADER + len(stored[key(n)]) for n in kept)
    assert found(path, read, stored, "int8") == kept


def test_a_disk_that_was_full_before_is_no_obstacle(read: Artifact, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(64 * 1024))
    states = []
    for cache in (False, small_disk / "c"):
        trainer = Trainer(read, threads=1, cache=cache)
        report = trainer.fit(intents(), epochs=2)
        states.append(trainer.state)
    assert report.uncached == len(intents())
    assert all(array.tobytes() == states[0][name].tobytes() for name, array in states[1].items())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_training_with_a_damaged_cache_ends_in_the_same_state(
    read: Artifact, tmp_path: Path, precision: str
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
        engine = Recorder(read)
        trainer = Trainer(read, engine=engine, cache=path)
        trainer.fit(intents(), epochs=2, cache_precision=precision)
        states.append(trainer.state)
        counts.append(engine.count("backbone_"))
    assert counts[0] == len(intents()) and counts[1] == 0
    assert all(0 < count < len(intents()) for count in counts[2:])
    for state in states[1:]:
        assert all(state[name].tobytes() == states[0][name].tobytes() for name in state)


def test_a_killed_writer_leaves_a_usable_file(read: Artifact, tmp_path: Path) -> None:
    script = Path(__file__).with_name("kill_caching.py")
    done = subprocess.run(
        [sys.executable, script, read.path, tmp_path / "c", "30", "0"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    kills, _torn, most = map(int, done.stdout.split())
    assert kills == 30 and most > 0
