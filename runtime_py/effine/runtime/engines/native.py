"""The C++ runner: built from source with the ExecuTorch wheel, run as a program of its own.

For 64-bit ARM it is cross-built with that architecture's wheel and runs under qemu.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from effine.runtime.engines import Arrays
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

RUNNER = "effine-runner"
ARM64_TOOLCHAIN = "aarch64-linux.cmake"
ARM64_PACKAGES = "apt install g++-aarch64-linux-gnu libc6-arm64-cross qemu-user-static"
# With SME, XNNPACK under qemu 7.2 gets int8 products wrong; without it they are right.
_EMULATOR = ("qemu-aarch64-static", "-cpu", "max,sme=off", "-L", "/usr/aarch64-linux-gnu")
_ARM64_WHEEL = (
    *("--platform", "manylinux_2_28_aarch64", "--python-version", "311"),
    *("--only-binary=:all:", "--no-deps"),
)
_CONFIG = "share/cmake/executorch-config.cmake"
_TIMEOUT_SECONDS = 3600
_COMPILERS = ("c++", "g++", "clang++")


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
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.executable}: no result after {_TIMEOUT_SECONDS} s") from error
        except OSError as error:
            raise EngineError(f"{self.executable}: can't be started: {error.strerror}") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise EngineError(f"{self.executable}: {lines[-1].removeprefix(f'{RUNNER}: ')}")
        return done.stdout


def build_runner(source: Path, build: Path) -> Runner:
    """Build the runner for this machine, unless it is newer than all of its sources.

    Args:
        source: the folder with the runner's CMakeLists.txt.
        build: a folder for the build, made when missing.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    compiler = f"-DCMAKE_CXX_COMPILER={_compiler()}"
    return Runner(_built(source, build, _executorch(), compiler))


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
    runner = _built(source, build, wheel, toolchain)
    return Runner(runner, _EMULATOR)


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


def _built(source: Path, build: Path, wheel: Path, *definitions: str) -> Path:
    """The executable, built anew if a source or the wheel has changed since."""
    if not (source / "CMakeLists.txt").is_file():
        raise EngineError(f"{source}: no CMakeLists.txt; the runner is built in effine's checkout")
    runner = build / RUNNER
    if runner.is_file() and runner.stat().st_mtime >= _newest([source, wheel / "version.py"]):
        return runner
    cmake = _tool("cmake")
    configure = [
        *(cmake, "-S", str(source), "-B", str(build), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
        f"-DCMAKE_PREFIX_PATH={wheel.absolute()}",
        "-DCMAKE_BUILD_TYPE=Release",
        *definitions,
    ]
    log = build / "build.log"
    try:
        build.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            for command in (configure, [cmake, "--build", str(build)]):
                subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)
        runner.touch()
    except OSError as error:
        raise EngineError(f"{build}: the runner can't be built there: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"{source}: the runner doesn't build; the compiler's output is in {log}; "
            f"remove {build} to start afresh"
        ) from error
    return runner


def _executorch() -> Path:
    spec = importlib.util.find_spec("executorch")
    for location in spec.submodule_search_locations or () if spec else ():
        if Path(location, _CONFIG).is_file():
            return Path(location)
    raise EngineError("the C++ runner needs the executorch wheel: pip install executorch==1.5.1")


def _arm64_wheel(folder: Path) -> Path:
    """The executorch package for aarch64, downloaded and unpacked once but not installed."""
    release = f"executorch=={version('executorch')}"
    wheel = folder / release / "executorch"
    if (wheel / _CONFIG).is_file():
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


def _tool(name: str) -> str:
    """A program of this Python environment, else of the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise EngineError(f"the C++ runner needs {name}: pip install {name}")
    return found


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    found = [path for path in map(shutil.which, [chosen] if chosen else _COMPILERS) if path]
    if not found:
        wanted = f"CXX={chosen} isn't there" if chosen else "install g++ or clang++"
        raise EngineError(f"the C++ runner needs a C++17 compiler: {wanted}")
    return found[0]


def _newest(places: Sequence[Path]) -> float:
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    return max(file.stat().st_mtime for file in files)
