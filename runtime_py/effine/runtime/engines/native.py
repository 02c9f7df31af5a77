"""The C++ runner: built from source with the ExecuTorch wheel, run as a program of its own.

For 64-bit ARM it is cross-built with that architecture's wheel and runs under qemu.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from effine.runtime.engines import Arrays
from effine.runtime.engines.building import CONFIG, cmake_build, compiler, executorch_wheel
from effine.runtime.engines.program import run_program
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

RUNNER = "effine-runner"
_WHAT = "the C++ runner"
ARM64_TOOLCHAIN = "aarch64-linux.cmake"
ARM64_PACKAGES = "apt install g++-aarch64-linux-gnu libc6-arm64-cross qemu-user-static"
# With SME, XNNPACK under qemu 7.2 gets int8 products wrong; without it they are right.
_EMULATOR = ("qemu-aarch64-static", "-cpu", "max,sme=off", "-L", "/usr/aarch64-linux-gnu")
_ARM64_WHEEL = (
    *("--platform", "manylinux_2_28_aarch64", "--python-version", "311"),
    *("--only-binary=:all:", "--no-deps"),
)


@dataclass(frozen=True)
class Runner:
    """A built runner.

    Args:
        executable: the program.
        emulator: the command that runs it, when this machine can't by itself.
    """

    executable: Path
    emulator: tuple[str, ...] = ()

    def run(self, *arguments: str | Path) -> str:
        """Run a command of the runner, such as `train`; see its `--help`.

        Returns:
            What it prints.

        Raises:
            EngineError: the runner can't be started, or reports an error.
        """
        command = [*self.emulator, str(self.executable), *map(str, arguments)]
        return run_program(self.executable, command)


def build_runner(source: Path, build: Path) -> Runner:
    """Build the runner for this machine, unless it is newer than all of its sources.

    Args:
        source: the folder with the runner's CMakeLists.txt.
        build: a folder for the build, made when missing.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    wheel = executorch_wheel(_WHAT)
    chosen = f"-DCMAKE_CXX_COMPILER={compiler(_WHAT)}"
    return Runner(cmake_build(_WHAT, source, build, RUNNER, wheel, chosen))


def build_arm64_runner(source: Path, build: Path) -> Runner:
    """Cross-build the runner for 64-bit ARM Linux, to be run under qemu's user emulation.

    Args:
        source: the folder with the runner's CMakeLists.txt.
        build: a folder for the build and the other architecture's wheel, made when missing.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    for tool in ("aarch64-linux-gnu-g++", _EMULATOR[0]):
        if shutil.which(tool) is None:
            raise EngineError(f"the arm64 runner needs {tool}: {ARM64_PACKAGES}")
    wheel = _arm64_wheel(build / "wheel")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={(source / ARM64_TOOLCHAIN).absolute()}"
    return Runner(cmake_build(_WHAT, source, build, RUNNER, wheel, toolchain), _EMULATOR)


def replay_native(
    runner: Runner, artifact: Path, threads: int | None = None, *, accumulated: bool = False
) -> Arrays:
    """Replay an artifact's golden run in the runner.

    Args:
        runner: from `build_runner` or `build_arm64_runner`.
        artifact: an artifact's folder.
        threads: size of ExecuTorch's thread pool; by default its own choice.
        accumulated: by way of gradient sums.

    Returns:
        The same tensors as `effine.runtime.replay.replay`.

    Raises:
        EngineError: the runner can't be started, or reports an error.
    """
    options = [] if threads is None else ["--threads", str(threads)]
    options += ["--accumulated"] if accumulated else []
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        result = Path(folder, "result.safetensors")
        runner.run("replay", artifact, result, *options)
        return read_tensors(result)[0]


def _arm64_wheel(folder: Path) -> Path:
    """The executorch package for aarch64, downloaded and unpacked once but not installed."""
    release = f"executorch=={version('executorch')}"
    wheel = folder / release / "executorch"
    if (wheel / CONFIG).is_file():
        return wheel
    with tempfile.TemporaryDirectory(prefix="effine-") as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", download]
        done = subprocess.run(
            [*command, *_ARM64_WHEEL, release], capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise EngineError(f"the arm64 runner needs {release} for aarch64 from pip: {reason}")
        for file in Path(download).glob("*.whl"):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(wheel.parent)
    return wheel
