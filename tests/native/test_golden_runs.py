"""The C++ runner replays the golden run of every method, here and on 64-bit ARM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported
from effine.export.methods import known_methods
from effine.runtime.engines.native import Runner, replay_native
from effine.runtime.parity import compare

pytest_plugins = "runners"
VECTORS = Path(__file__).parents[1] / "vectors"


def program(built: Runner, name: str) -> Runner:
    return Runner(built.executable.with_name(name), built.emulator)


@pytest.mark.parametrize("method", known_methods())
def test_trains_as_pytorch_does(artifact: Exported, runner: Runner, method: str) -> None:
    exported = artifact(method)
    report = compare(exported, replay_native(runner, exported.path, threads=1), "native")
    assert report.passed, [check for check in report.checks if not check.passed]


@pytest.mark.parametrize("method", ["head", "spartan", "read"])
def test_trains_as_pytorch_does_on_arm64(artifact: Exported, arm64: Runner, method: str) -> None:
    exported = artifact(method)
    report = compare(exported, replay_native(arm64, exported.path, threads=1), "arm64")
    assert report.passed, [check for check in report.checks if not check.passed]


def test_a_replay_repeats_itself(artifact: Exported, runner: Runner) -> None:
    path = artifact("head").path
    first, second = (replay_native(runner, path, threads=1) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_order_and_schedules_agree_with_the_vectors(runner: Runner) -> None:
    program(runner, "effine-vectors").run(VECTORS)


def test_order_and_schedules_agree_with_the_vectors_on_arm64(arm64: Runner) -> None:
    program(arm64, "effine-vectors").run(VECTORS)
