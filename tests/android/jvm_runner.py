"""The Kotlin SDK on the JVM, built once per test session."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from artifacts import shared_folder
from effine.runtime.engines.jvm import JvmRunner, build_jvm_runner
from effine.runtime.errors import EngineError

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "mobile_demo" / "android"
BUILD = ROOT / "build" / "jvm"


@pytest.fixture(scope="session")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> JvmRunner:
    """Built into the checkout's own folders, so that a later session finds it there."""
    with open(shared_folder(tmp_path_factory) / "jvm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return build_jvm_runner(SOURCE, BUILD)
        except EngineError as error:
            if " needs " not in str(error):
                raise
            pytest.skip(str(error))
