"""The C++ runner for this machine and for 64-bit ARM, each built once per test session."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts import shared_folder
from effine.runtime.engines.native import Runner, build_arm64_runner, build_runner
from effine.runtime.errors import EngineError

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "mobile_demo" / "native"


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return _built_once(tmp_path_factory, build_runner, "native")


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return _built_once(tmp_path_factory, build_arm64_runner, "native-arm64")


def _built_once(
    factory: pytest.TempPathFactory, build: Callable[[Path, Path], Runner], name: str
) -> Runner:
    """Build into the checkout's own build folder, so that a later session finds it there."""
    with open(shared_folder(factory) / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return build(SOURCE, ROOT / "build" / name)
        except EngineError as error:
            if "runner needs" not in str(error):
                raise
            pytest.skip(str(error))
