"""Native parts built from source with CMake against the ExecuTorch wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from effine.runtime.errors import EngineError

CONFIG = "share/cmake/executorch-config.cmake"
_COMPILERS = ("c++", "g++", "clang++")


def cmake_build(
    what: str, source: Path, build: Path, product: str, wheel: Path, *definitions: str
) -> Path:
    """A product of a CMake project, built anew if a source or the wheel has changed since.

    Args:
        what: its name in messages, such as `the C++ runner`.
        source: the folder with the CMakeLists.txt.
        build: a folder for the build, made when missing.
        product: the name of the file that the build makes there.
        wheel: the unpacked ExecuTorch package.
        definitions: further arguments for CMake.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    if not (source / "CMakeLists.txt").is_file():
        raise EngineError(f"{source}: no CMakeLists.txt; {what} is built in effine's checkout")
    made = build / product
    with one_build(what, build):
        if made.is_file() and made.stat().st_mtime >= newest([source, wheel / "version.py"]):
            return made
        cmake = _tool(what, "cmake")
        configure = [
            *(cmake, "-S", str(source), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={_tool(what, 'ninja')}",
            f"-DCMAKE_PREFIX_PATH={wheel.absolute()}",
            "-DCMAKE_BUILD_TYPE=Release",
            *definitions,
        ]
        run_logged(what, build, [configure, [cmake, "--build", str(build)]])
        made.touch()
    return made


@contextmanager
def one_build(what: str, build: Path) -> Iterator[None]:
    """Hold a folder that is made when missing, so that other processes wait before building there.

    Raises:
        EngineError: the folder can't be written.
    """
    try:
        build.mkdir(parents=True, exist_ok=True)
        lock = FileLock(build / "build.lock")
        lock.acquire()
    except OSError as error:
        raise EngineError(f"{build}: {what} can't be built there: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def run_logged(what: str, build: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run a build's commands with their output in `build.log`.

    Raises:
        EngineError: a command fails or the folder can't be written.
    """
    log = build / "build.log"
    try:
        with log.open("w") as output:
            for command in commands:
                subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)
    except OSError as error:
        raise EngineError(f"{build}: {what} can't be built there: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"{what} doesn't build; the output is in {log}; remove {build} to start afresh"
        ) from error


def executorch_wheel(what: str) -> Path:
    """The installed ExecuTorch package.

    Raises:
        EngineError: there is none.
    """
    spec = importlib.util.find_spec("executorch")
    for location in spec.submodule_search_locations or () if spec else ():
        if Path(location, CONFIG).is_file():
            return Path(location)
    raise EngineError(f"{what} needs the executorch wheel: pip install executorch==1.5.1")


def compiler(what: str) -> str:
    """The C++ compiler that CXX names, or the machine's.

    Raises:
        EngineError: there is none.
    """
    chosen = os.environ.get("CXX")
    found = [path for path in map(shutil.which, [chosen] if chosen else _COMPILERS) if path]
    if not found:
        wanted = f"CXX={chosen} isn't there" if chosen else "install g++ or clang++"
        raise EngineError(f"{what} needs a C++17 compiler: {wanted}")
    return found[0]


def newest(places: Sequence[Path]) -> float:
    """The time of the last change in some files and folders."""
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    return max(file.stat().st_mtime for file in files)


def _tool(what: str, name: str) -> str:
    """A program of this Python environment, else of the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise EngineError(f"{what} needs {name}: pip install {name}")
    return found
