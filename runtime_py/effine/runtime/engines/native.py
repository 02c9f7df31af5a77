"""The C++ runner: built from source with the ExecuTorch wheel, run as a program of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from effine.runtime.engines import Arrays
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

RUNNER = "effine-runner"
_TIMEOUT_SECONDS = 3600
_PIP = "pip install {0}"
_COMPILERS = ("c++", "g++", "clang++")


def build_runner(source: Path, build: Path) -> Path:
    """Build the runner, unless it is newer than all of its sources.

    Args:
        source: the folder with the runner's CMakeLists.txt.
        build: a folder for the build, made when missing.

    Returns:
        The path of the executable.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    if not (source / "CMakeLists.txt").is_file():
        raise EngineError(f"{source}: no CMakeLists.txt; the runner is built in effine's checkout")
    runner = build / RUNNER
    wheel = _executorch()
    if runner.is_file() and runner.stat().st_mtime >= _newest([source, wheel / "version.py"]):
        return runner
    cmake = _tool("cmake", _PIP)
    configure = [
        *(cmake, "-S", str(source), "-B", str(build), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={_tool('ninja', _PIP)}",
        f"-DCMAKE_CXX_COMPILER={_compiler()}",
        f"-DCMAKE_PREFIX_PATH={wheel}",
        "-DCMAKE_BUILD_TYPE=Release",
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


def replay_native(runner: Path, artifact: Path, threads: int | None = None) -> Arrays:
    """Replay an artifact's golden run in the runner.

    Args:
        runner: the executable from `build_runner`.
        artifact: an artifact's folder.
        threads: size of ExecuTorch's thread pool; by default its own choice.

    Returns:
        The same tensors as `effine.runtime.replay.replay`.

    Raises:
        EngineError: the runner can't be started, or reports an error.
    """
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        result = Path(folder, "result.safetensors")
        command = [str(runner), "replay", str(artifact), str(result)]
        if threads is not None:
            command += ["--threads", str(threads)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{runner}: no result after {_TIMEOUT_SECONDS} s") from error
        except OSError as error:
            raise EngineError(f"{runner}: can't be started: {error.strerror}") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise EngineError(f"{runner}: {lines[-1].removeprefix(f'{RUNNER}: ')}")
        return read_tensors(result)[0]


def _executorch() -> Path:
    spec = importlib.util.find_spec("executorch")
    for location in spec.submodule_search_locations or () if spec else ():
        if Path(location, "share/cmake/executorch-config.cmake").is_file():
            return Path(location)
    raise EngineError("the C++ runner needs the executorch wheel: pip install executorch==1.5.1")


def _tool(name: str, install: str) -> str:
    """A program of this Python environment, else of the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise EngineError(f"the C++ runner needs {name}: {install.format(name)}")
    return found


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    found = [path for path in map(shutil.which, [chosen] if chosen else _COMPILERS) if path]
    if not found:
        wanted = f"CXX={chosen} isn't there" if chosen else "install g++ or clang++"
        raise EngineError(f"the C++ runner needs a C++17 compiler: {wanted}")
    return found[0]


def _newest(places: list[Path]) -> float:
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    return max(file.stat().st_mtime for file in files)
