"""`effine parity --on android`, with an adb and a Gradle that only pretend.

The pretended device checks what it is given, and answers with what was replayed here.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from artifacts import Exported
from commands import good, refused, run
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.engines.executorch import ExecuTorchEngine
from effine.runtime.replay import replay
from effine.runtime.tensors import read_tensors, write_tensors
from runners import ANDROID

ADB = """
import hashlib, json, shutil, sys
from pathlib import Path

home, arguments = Path(__file__).parent.parent, sys.argv[1:]
state = json.loads((home / "device.json").read_text())
place = lambda remote: home / "device" / remote.lstrip("/")
if arguments == ["devices"]:
    print("List of devices attached")
    for serial, condition in state["devices"].items():
        print(f"{serial}\\t{condition}")
    sys.exit()
assert arguments[:2] == ["-s", "emulator-5554"], arguments
match arguments[2:]:
    case ["install", "-r", "-t", app]:
        assert Path(app).read_text() == "a test app"
        if state["full"]:
            sys.exit("adb: failed to install: Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]")
        place("/data/installed").parent.mkdir(parents=True, exist_ok=True)
        place("/data/installed").touch()
    case ["shell", "rm", "-rf", folder]:
        shutil.rmtree(place(folder), ignore_errors=True)
    case ["shell", "mkdir", "-p", folder]:
        place(folder).mkdir(parents=True)
    case ["push", file, remote]:
        shutil.copyfile(file, place(remote))
    case ["shell", "getprop", name]:
        print({"ro.build.version.release": "14", "ro.product.cpu.abi": "x86_64"}.get(name, "Pixel"))
    case ["shell", "am", "instrument", "-w", *options, runner]:
        assert place("/data/installed").exists(), "not installed"
        assert runner == "io.github.effine.test/androidx.test.runner.AndroidJUnitRunner"
        extras = dict(zip(options[1::3], options[2::3]))
        assert options[::3] == ["-e"] * len(extras)
        assert extras["class"] == "io.github.effine.GoldenRunTest" and extras["threads"] == "1"
        folder = place(extras["artifact"])
        files = json.loads((folder / "manifest.json").read_text())["files"]
        for name, entry in files.items():
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert found == entry["sha256"], name
        assert {path.name for path in folder.iterdir()} == {*files, "manifest.json"}
        if state["crashes"]:
            print("INSTRUMENTATION_RESULT: shortMsg=Process crashed.")
        else:
            shutil.copytree(home / "results", place("/files/effine"))
            print("io.github.effine.GoldenRunTest:.\\n\\nTime: 1.0\\n\\nOK (1 test)")
    case ["exec-out", "run-as", "io.github.effine.test", "cat", file]:
        sys.stdout.buffer.write(place(file).read_bytes())
    case unknown:
        sys.exit(f"adb: unknown command {unknown}")
"""
GRADLE = """
import sys
from pathlib import Path

assert sys.argv[3:] == [":sdk:assembleDebugAndroidTest"] and sys.argv[1] == "-p"
app = Path(sys.argv[2], "sdk/build/outputs/apk/androidTest/debug/sdk-debug-androidTest.apk")
app.parent.mkdir(parents=True)
app.write_text("a test app")
"""


class Phone:
    """A pretended device; it replays what `results` says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.programs = folder, folder / "bin"
        self.programs.mkdir()
        source, test = folder / "mobile_demo" / "android", Path("sdk", "src", "androidTest")
        shutil.copytree(ANDROID / test, source / test)
        for name in ("build.gradle.kts", "sdk/build.gradle.kts"):
            shutil.copyfile(ANDROID / name, source / name)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.delenv("ANDROID_SERIAL", raising=False)
        self.is_now()

    def install(self, name: str, program: str) -> None:
        path = self.programs / name
        path.write_text(f"#!{sys.executable}\n{program}")
        path.chmod(0o755)

    def is_now(self, *, full: bool = False, crashes: bool = False, **devices: str) -> None:
        known = {name.replace("_", "-"): condition for name, condition in devices.items()}
        state = {"devices": known, "full": full, "crashes": crashes}
        (self.folder / "device.json").write_text(json.dumps(state))

    def replays(self, artifact: Artifact, **changes: np.ndarray) -> None:
        engine = ExecuTorchEngine(artifact, threads=1)
        results: dict[str, Arrays] = {
            "result": replay(artifact, engine) | changes,
            "resumed": replay(artifact, engine, interrupted=True) | changes,
        }
        shutil.rmtree(self.folder / "results", ignore_errors=True)
        shutil.rmtree(self.folder / "device", ignore_errors=True)
        for name, arrays in results.items():
            path = self.folder / "results" / f"{name}.safetensors"
            path.parent.mkdir(exist_ok=True)
            write_tensors(path, arrays, {})


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    return Phone(tmp_path, monkeypatch)


@pytest.fixture
def exported(artifact: Exported, tmp_path: Path) -> Artifact:
    """A copy, as reports are written into it."""
    original = artifact("head")
    return Artifact.open(Path(shutil.copytree(original.path, tmp_path / "head.effine")))


def test_what_a_device_replays_is_compared_and_reported(phone: Phone, exported: Artifact) -> None:
    phone.install("adb", ADB)
    phone.install("gradle", GRADLE)
    phone.is_now(emulator_5554="device")
    phone.replays(exported)
    command = ("parity", exported.path, "--on", "android", "--threads", 1)
    assert "passed" in good(*command).lower()
    report = json.loads((exported.path / "reports" / "parity-android.json").read_text())
    assert report["passed"] and report["manifest"] == exported.manifest.sha256
    assert report["machine"] == "Android 14 x86_64, Pixel"
    assert "resume is bit-exact" in {check["name"] for check in report["checks"]}
    assert not (phone.folder / "device" / "data/local/tmp/effine").exists(), "files are left there"

    logits = read_tensors(phone.folder / "results" / "result.safetensors")[0]["logits"]
    phone.replays(exported, logits=np.zeros_like(logits))
    result = run(*command)
    assert result.exit_code == 1 and "FAIL logits" in result.stdout

    phone.is_now(emulator_5554="device", crashes=True)
    assert "the test failed on the device: " in refused(*command)
    phone.is_now(emulator_5554="device", full=True)
    assert "INSUFFICIENT_STORAGE" in refused(*command)


def test_what_is_missing_is_said_in_one_line(
    phone: Phone, exported: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message() -> str:
        return refused("parity", exported.path, "--on", "android")

    assert "needs adb: install Android's platform-tools" in message()
    phone.install("adb", ADB)
    assert "needs a device: start an emulator" in message()
    phone.is_now(emulator_5554="offline")
    assert "emulator-5554 is offline; wake it up" in message()
    phone.is_now(emulator_5554="device", phone="device")
    assert "adb has emulator-5554, phone; name one in ANDROID_SERIAL" in message()
    monkeypatch.setenv("ANDROID_SERIAL", "tablet")
    assert "needs tablet, which ANDROID_SERIAL names" in message()
    monkeypatch.setenv("ANDROID_SERIAL", "emulator-5554")
    assert "needs gradle: install Gradle" in message()
    phone.install("gradle", "import sys; sys.exit('no Android SDK')")
    assert "the output is in build/android/build.log" in message()
    assert not (exported.path / "reports" / "parity-android.json").exists()
