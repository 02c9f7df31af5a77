"""Checkpoints come back bit for bit, or not at all with the reason."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from effine.runtime.checkpoint import Checkpoint, resume_differences
from effine.runtime.errors import CheckpointError, IncompatibleCheckpoint, StateError
from effine.runtime.manifest import Manifest
from effine.runtime.tensors import read_tensors, write_tensors
from tiny_artifact import make_manifest, make_programs

SETTINGS = {"epochs": 3, "piece_rate": 1e-3, "seed": 2**63 + 1, "class_weights": None}


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


def make_checkpoint(manifest: Manifest, **changes: Any) -> Checkpoint:
    random = np.random.default_rng(3)

    def draw(entries: Any) -> dict[str, np.ndarray]:
        return {e.name: random.normal(size=e.shape).astype(np.float32) for e in entries}

    fields = {
        "state": draw(manifest.state),
        "best_state": draw(manifest.parameters),
        "phase": "train",
        "policy": {"cut": 2},
        "step": 17,
        "update": 18,
        "total_updates": 90,
        "epoch": 1,
        "cursor": 5,
        "seed": 2**64 - 1,
        "data_fingerprint": "f" * 64,
        "settings": SETTINGS,
        "best_metric": 0.1 + 0.2,
        "patience_left": -1,
        "labels": ("ja", "nein", "weiß nicht", "neu\n"),
        "report": {"epochs": [{"loss": 1e-300}], "warnings": ["größer"]},
    }
    return Checkpoint.of(manifest, **(fields | changes))


def same(left: Checkpoint, right: Checkpoint) -> bool:
    for name in ("state", "best_state"):
        a, b = getattr(left, name), getattr(right, name)
        if (a is None) != (b is None):
            return False
        if a is not None and (
            list(a) != list(b) or any(a[key].tobytes() != b[key].tobytes() for key in a)
        ):
            return False
    blank = {"state": {}, "best_state": None}
    return dataclasses.replace(left, **blank) == dataclasses.replace(right, **blank)


@pytest.mark.parametrize("changes", [{}, {"best_state": None, "best_metric": None}], ids=str)
def test_round_trip_is_exact(tmp_path: Path, manifest: Manifest, changes: dict[str, Any]) -> None:
    path = tmp_path / "x.ckpt"
    checkpoint = make_checkpoint(manifest, **changes)
    checkpoint.save(path)
    loaded = Checkpoint.load(path, manifest)
    assert same(loaded, checkpoint)
    loaded.save(tmp_path / "again.ckpt")
    assert (tmp_path / "again.ckpt").read_bytes() == path.read_bytes()


def test_order_of_tensors_is_the_manifest_s(tmp_path: Path, manifest: Manifest) -> None:
    checkpoint = make_checkpoint(manifest)
    backwards = dict(reversed(checkpoint.state.items()))
    make_checkpoint(manifest, state=backwards, best_state=checkpoint.best_state).save(
        tmp_path / "a"
    )
    make_checkpoint(manifest, state=checkpoint.state, best_state=checkpoint.best_state).save(
        tmp_path / "b"
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_metadata_that_others_read(tmp_path: Path, manifest: Manifest) -> None:
    make_checkpoint(manifest).save(tmp_path / "x.ckpt")
    with safetensors.safe_open(tmp_path / "x.ckpt", "np") as file:
        metadata = file.metadata()
        assert file.get_tensor("best.piece.bias").shape == (3,)
    expected = {
        "format": "effine checkpoint",
        "schema": "1",
        "state_id": manifest.state_id,
        "manifest_sha256": manifest.sha256,
        "step": "17",
        "seed": "18446744073709551615",
        "best_metric": "0.30000000000000004",
        "patience_left": "-1",
        "policy": '{"cut":2}',
        "labels": '["ja","nein","weiß nicht","neu\\n"]',
    }
    assert {name: metadata[name] for name in expected} == expected


def incompatible(path: Path, manifest: Manifest) -> str:
    with pytest.raises(IncompatibleCheckpoint) as caught:
        Checkpoint.load(path, manifest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_incompatible_names_the_difference(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "x.ckpt"
    make_checkpoint(manifest).save(path)
    before = path.read_bytes()
    replace = dataclasses.replace
    method, task = manifest.method_info, manifest.task
    state = (*manifest.state[:-1], replace(manifest.state[-1], group="pieces"))
    cases = {
        'method ("adapter" there, "lora" here)': {"method": replace(method, name="lora")},
        "option size (16 there, 8 here)": {
            "method": replace(method, options=method.options | {"size": 8})
        },
        "option width (none there, 4 here)": {
            "method": replace(method, options=method.options | {"width": 4})
        },
        "first layer (2 there, 1 here)": {"method": replace(method, first_layer=1)},
        "backbone (": {"backbone": replace(manifest.backbone, sha256="cd" * 32)},
        'labels (["ja","nein","weiß nicht"] there, ["ja"] here)': {
            "task": replace(task, labels=("ja",))
        },
        "spare labels (1 there, 3 here)": {"task": replace(task, spare_labels=3)},
        "state layout (": {"state": state, "programs": make_programs(state)},
    }
    for expected, changes in cases.items():
        message = incompatible(path, make_manifest(**changes))
        assert expected in message
        assert message.count(" there, ") == 1
    assert path.read_bytes() == before


def test_another_export_with_the_same_state_id_loads(tmp_path: Path, manifest: Manifest) -> None:
    make_checkpoint(manifest).save(tmp_path / "x.ckpt")
    updated = make_manifest(effine="0.2.0", name="new")
    assert Checkpoint.load(tmp_path / "x.ckpt", updated).step == 17


def damaged(path: Path, manifest: Manifest) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path, manifest)
    assert not isinstance(caught.value, IncompatibleCheckpoint)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_changed_byte_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "x.ckpt"
    make_checkpoint(manifest).save(path)
    raw = path.read_bytes()
    for position in range(0, len(raw), 11):
        changed = bytearray(raw)
        changed[position] ^= 0x04
        path.write_bytes(changed)
        damaged(path, manifest)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated(tmp_path: Path, manifest: Manifest, keep: int) -> None:
    path = tmp_path / "x.ckpt"
    make_checkpoint(manifest).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    damaged(path, manifest)


def test_other_files(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "x.ckpt"
    assert "No such file" in damaged(path, manifest)
    write_tensors(path, make_checkpoint(manifest).state, {})
    assert "not an effine checkpoint" in damaged(path, manifest)
    make_checkpoint(manifest).save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"schema": "2"})
    assert "schema 2 is newer than this version reads (1); update effine" in damaged(path, manifest)
    write_tensors(path, tensors, metadata | {"schema": "9" * 5000})
    damaged(path, manifest)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": ("ja", "nein")}, "labels"),
        ({"labels": ("nein", "ja", "weiß nicht")}, "labels"),
        ({"labels": ("ja", "nein", "weiß nicht", "a", "b")}, "labels"),
        ({"labels": ("ja", "nein", "weiß nicht", "ja")}, "labels"),
        ({"step": -1}, "step: -1"),
        ({"cursor": 1.5}, "cursor: 1.5"),
        ({"seed": 2**64}, "seed"),
        ({"settings": []}, "settings"),
    ],
    ids=str,
)
def test_absurd_values(
    tmp_path: Path, manifest: Manifest, changes: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "x.ckpt"
    make_checkpoint(manifest, **changes).save(path)
    assert expected in damaged(path, manifest)


def test_a_state_that_does_not_fit_is_listed_whole(manifest: Manifest) -> None:
    state = make_checkpoint(manifest).state
    del state["piece.bias"]
    state |= {"head.bias": np.zeros(5, np.float32), "more": np.zeros(1, np.float32)}
    with pytest.raises(StateError) as caught:
        make_checkpoint(manifest, state=state)
    for part in ("'piece.bias' is missing", "'head.bias' is float32[5], not", "'more' is unknown"):
        assert part in str(caught.value)


@pytest.mark.parametrize("report", [{"loss": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_what_json_cannot_hold_is_refused(
    tmp_path: Path, manifest: Manifest, report: dict[str, Any]
) -> None:
    make_checkpoint(manifest).save(tmp_path / "x.ckpt")
    with pytest.raises(StateError, match="JSON"):
        make_checkpoint(manifest, report=report).save(tmp_path / "x.ckpt")
    assert Checkpoint.load(tmp_path / "x.ckpt", manifest).step == 17


@pytest.mark.parametrize("call", ["os.replace", "os.fsync"])
def test_interrupted_save_keeps_the_old_checkpoint(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "x.ckpt"
    make_checkpoint(manifest).save(path)

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(StateError, match=r"x\.ckpt: can't be written: Read-only"):
            make_checkpoint(manifest, step=18).save(path)
    assert Checkpoint.load(path, manifest).step == 17
    assert os.listdir(tmp_path) == ["x.ckpt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("can't mount a small file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_keeps_the_old_checkpoint(small_disk: Path, manifest: Manifest) -> None:
    path = small_disk / "x.ckpt"
    make_checkpoint(manifest).save(path)
    (small_disk / "ballast").write_bytes(bytes(40 * 1024))
    big = make_checkpoint(manifest, report={"warnings": ["x" * 40_000]})
    with pytest.raises(StateError, match=r"x\.ckpt: can't be written: No space left"):
        big.save(path)
    assert Checkpoint.load(path, manifest).step == 17
    assert sorted(os.listdir(small_disk)) == ["ballast", "x.ckpt"]


def test_resume_differences(manifest: Manifest) -> None:
    checkpoint = make_checkpoint(manifest)
    fingerprint = checkpoint.data_fingerprint
    assert resume_differences(checkpoint, settings=SETTINGS, data_fingerprint=fingerprint) == []
    assert resume_differences(
        checkpoint,
        settings=SETTINGS | {"epochs": 4, "seed": 1, "patience": 2},
        data_fingerprint="other",
        manifest_sha256="1" * 64,
    ) == [
        "setting epochs (3 there, 4 here)",
        "setting patience (none there, 2 here)",
        "setting seed (9223372036854775809 there, 1 here)",
        "the data are not those of the interrupted run",
        "the artifact has been exported again since",
    ]
