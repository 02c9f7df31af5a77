"""The C++ runner for this machine and for 64-bit ARM, the Kotlin SDK on the JVM, and the demo app.

Each is built into the checkout's own folders, so that a later session finds it there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

import demo_app
from effine.runtime.engines.jvm import JvmRunner, build_jvm_runner
from effine.runtime.engines.native import Runner, build_arm64_runner, build_runner
from effine.runtime.errors import EngineError

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "mobile_demo" / "native"
ANDROID = ROOT / "mobile_demo" / "android"

Host = Runner | JvmRunner
Built = TypeVar("Built", Runner, JvmRunner, demo_app.DemoApp)


@pytest.fixture(scope="session")
def runner() -> Runner:
    return _built(build_runner, NATIVE, "native")


@pytest.fixture(scope="session")
def arm64() -> Runner:
    return _built(build_arm64_runner, NATIVE, "native-arm64")


@pytest.fixture(scope="session")
def jvm() -> JvmRunner:
    return _built(_build_jvm, ANDROID, "jvm")


@pytest.fixture(scope="session")
def app() -> demo_app.DemoApp:
    return _built(lambda _, folder: demo_app.build(folder), ANDROID, "jvm")


@pytest.fixture(params=["runner", "jvm"])
def host(request: pytest.FixtureRequest) -> Host:
    """Each of the two that take the same commands."""
    return request.getfixturevalue(request.param)


def _build_jvm(source: Path, folder: Path) -> JvmRunner:
    """The SDK, and where that is possible the app in the same run of Maven."""
    if shutil.which("aapt2"):
        demo_app.build(folder)
    return build_jvm_runner(source, folder)


def _built(build: Callable[[Path, Path], Built], source: Path, name: str) -> Built:
    try:
        return build(source, ROOT / "build" / name)
    except EngineError as error:
        if " needs " not in str(error):
            raise
        pytest.skip(str(error))
