"""The Kotlin SDK on an Android device or emulator, reached over adb.

Gradle builds the SDK's instrumented test with the stock runtime for Android. It is installed, gets
an artifact's files, replays the golden run there, and gives its results back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from effine.runtime.artifact import MANIFEST, Artifact
from effine.runtime.engines import Arrays
from effine.runtime.engines.building import newest, one_build, run_logged
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

PACKAGE = "io.github.effine.test"
TEST_APP = Path("sdk/build/outputs/apk/androidTest/debug/sdk-debug-androidTest.apk")
REMOTE = "/data/local/tmp/effine"
_WHAT = "parity on android"
_TEST = "io.github.effine.GoldenRunTest"
_RUNNER = f"{PACKAGE}/androidx.test.runner.AndroidJUnitRunner"
_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Device:
    """A device or emulator that adb has a connection to."""

    adb: str
    serial: str

    def run(self, *arguments: str | Path) -> bytes:
        """Run an adb command on the device.

        Returns:
            What it prints.

        Raises:
            EngineError: adb can't be started, reports an error, or doesn't end.
        """
        return _adb(self.adb, "-s", self.serial, *arguments)

    @property
    def machine(self) -> str:
        """What it is, for reports."""
        wanted = ("ro.build.version.release", "ro.product.cpu.abi", "ro.product.model")
        found = [self.run("shell", "getprop", name).decode().strip() for name in wanted]
        return "Android {} {}, {}".format(*found)


@dataclass(frozen=True)
class DeviceRun:
    """What a device replayed: in one piece, through a file, and with accumulated gradients."""

    result: Arrays
    resumed: Arrays
    accumulated: Arrays | None


def connected_device() -> Device:
    """The device that adb has, or that ANDROID_SERIAL names among several.

    Raises:
        EngineError: there is no adb, no device, or one that can't be used; the message says what
            to do.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise EngineError(f"{_WHAT} needs adb: install Android's platform-tools")
    lines = _adb(adb, "devices").decode(errors="replace").splitlines()[1:]
    states = dict(line.split("\t", 1) for line in lines if "\t" in line)
    chosen = os.environ.get("ANDROID_SERIAL")
    if chosen is not None and chosen not in states:
        raise EngineError(
            f"{_WHAT} needs {chosen}, which ANDROID_SERIAL names; adb doesn't list it"
        )
    if not states:
        raise EngineError(
            f"{_WHAT} needs a device: start an emulator, or connect a phone with USB debugging"
        )
    if chosen is None and len(states) > 1:
        raise EngineError(f"{_WHAT}: adb has {', '.join(states)}; name one in ANDROID_SERIAL")
    serial = chosen or next(iter(states))
    if states[serial] != "device":
        raise EngineError(f"{_WHAT}: {serial} is {states[serial]}; wake it up and allow debugging")
    return Device(adb, serial)


def build_test_app(source: Path, build: Path) -> Path:
    """Build the SDK's instrumented test with Gradle, unless it is newer than its sources.

    Args:
        source: the folder of the Gradle project.
        build: a folder for the build's output, made when missing.

    Raises:
        EngineError: Gradle is missing, or the build fails.
    """
    app = source / TEST_APP
    sdk = source / "sdk"
    sources = [*source.glob("*.gradle.kts"), sdk / "build.gradle.kts", sdk / "src"]
    with one_build(_WHAT, build):
        if app.is_file() and app.stat().st_mtime >= newest(sources):
            return app
        gradle = shutil.which("gradle")
        if gradle is None:
            raise EngineError(f"{_WHAT} needs gradle: install Gradle and Android's SDK")
        run_logged(_WHAT, build, [[gradle, "-p", str(source), ":sdk:assembleDebugAndroidTest"]])
        if not app.is_file():
            log = build / "build.log"
            raise EngineError(f"{app}: Gradle didn't make it; its output is in {log}")
        app.touch()
    return app


def replay_android(
    device: Device, app: Path, artifact: Artifact, threads: int | None = None
) -> DeviceRun:
    """Replay an artifact's golden run on a device.

    Args:
        app: the instrumented test.
        threads: size of ExecuTorch's thread pool; by default its own choice.

    Raises:
        EngineError: adb or the test fails.
    """
    device.run("install", "-r", "-t", app)
    device.run("shell", "rm", "-rf", REMOTE)
    device.run("shell", "mkdir", "-p", REMOTE)
    try:
        device.run("push", artifact.path / MANIFEST, f"{REMOTE}/{MANIFEST}")
        for name in artifact.manifest.files:
            device.run("push", artifact.file(name), f"{REMOTE}/{name}")
        chosen = [] if threads is None else ["-e", "threads", str(threads)]
        arguments = ["-e", "class", _TEST, "-e", "artifact", REMOTE, *chosen]
        _check_passed(device.run("shell", "am", "instrument", "-w", *arguments, _RUNNER).decode())
        more = artifact.manifest.accumulates
        return DeviceRun(
            _pulled(device, "result"),
            _pulled(device, "resumed"),
            _pulled(device, "accumulated") if more else None,
        )
    finally:
        device.run("shell", "rm", "-rf", REMOTE)


def _check_passed(output: str) -> None:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(line.startswith("OK (") for line in lines):
        return
    reasons = [line for line in lines if "Error" in line or "shortMsg" in line]
    reason = (reasons or lines or ["it printed nothing"])[0]
    raise EngineError(f"{_WHAT}: the test failed on the device: {reason}")


def _pulled(device: Device, name: str) -> Arrays:
    """A result from the test's own files."""
    path = f"files/effine/{name}.safetensors"
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        file = Path(folder, Path(path).name)
        file.write_bytes(device.run("exec-out", "run-as", PACKAGE, "cat", path))
        return read_tensors(file)[0]


def _adb(adb: str, *arguments: str | Path) -> bytes:
    try:
        command = [adb, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{adb}: no result after {_TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise EngineError(f"{adb}: can't be started: {error.strerror}") from error
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise EngineError(f"{_WHAT}: adb reports: {reason}")
    return done.stdout
