"""The Kotlin SDK on this machine's JVM, over the ExecuTorch libraries of the Python wheel."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from effine.runtime.engines import Arrays
from effine.runtime.engines.building import (
    cmake_build,
    compiler,
    executorch_wheel,
    newest,
    run_logged,
)
from effine.runtime.engines.program import run_program
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

MAIN = "io.github.effine.runner.MainKt"
BRIDGE = "libeffine-bridge.so"
_WHAT = "the Kotlin SDK on the JVM"
_PACKAGES = "apt install maven openjdk-17-jdk-headless"
_MODULES = ("executorch-jvm", "sdk")
_JAR = "sdk-0.1.0.jar"


@dataclass(frozen=True)
class JvmRunner:
    """The SDK as a command.

    Args:
        source: the checked-out Maven project.
        command: what runs the SDK's main class.
    """

    source: Path
    command: tuple[str, ...]

    def run(self, *arguments: str | Path) -> str:
        """Run one of the commands in the SDK's `runner/Main.kt`, such as `replay`.

        Returns:
            What it prints.

        Raises:
            EngineError: the JVM can't be started, or the command reports an error.
        """
        return run_program(self.source, [*self.command, *map(str, arguments)])


def build_jvm_runner(source: Path, build: Path) -> JvmRunner:
    """Build the SDK and the bridge to ExecuTorch, unless they are newer than their sources.

    Args:
        source: the folder of the Maven project.
        build: a folder for the bridge and the build's output, made when missing.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    java, maven = _jdk() / "bin" / "java", _maven()
    bridge = _bridge(source, build)
    classes = source / "sdk" / "target"
    made = classes / _JAR
    sources = [
        source / "pom.xml",
        *(source / m / part for m in _MODULES for part in ("pom.xml", "src")),
    ]
    if not made.is_file() or made.stat().st_mtime < newest(sources):
        run_logged(_WHAT, build / "maven", [[*maven, "-f", str(source), "package", "-DskipTests"]])
        made.touch()
    path = os.pathsep.join(map(str, (classes / "test-classes", made, classes / "lib" / "*")))
    options = (f"-Deffine.bridge={bridge.absolute()}", "-cp", path)
    return JvmRunner(source, (str(java), *options, MAIN))


def replay_jvm(
    runner: JvmRunner,
    artifact: Path,
    threads: int | None = None,
    *,
    interrupted: bool = False,
    accumulated: bool = False,
) -> Arrays:
    """Replay an artifact's golden run in the SDK.

    Args:
        artifact: an artifact's folder.
        threads: size of ExecuTorch's thread pool; by default its own choice.
        interrupted: the state goes through a file half-way.
        accumulated: by way of gradient sums.

    Returns:
        The same tensors as `effine.runtime.replay.replay`.

    Raises:
        EngineError: the JVM can't be started, or reports an error.
    """
    options: list[str | Path] = [] if threads is None else ["--threads", str(threads)]
    options += ["--accumulated"] if accumulated else []
    with tempfile.TemporaryDirectory(prefix="effine-") as folder:
        if interrupted:
            options += ["--through", Path(folder, "state.safetensors")]
        result = Path(folder, "result.safetensors")
        runner.run("replay", artifact, result, *options)
        return read_tensors(result)[0]


def _bridge(source: Path, build: Path) -> Path:
    """The library between the stand-ins for Android's runtime classes and ExecuTorch."""
    return cmake_build(
        _WHAT,
        source / "executorch-jvm" / "src" / "main" / "cpp",
        build / "bridge",
        BRIDGE,
        executorch_wheel(_WHAT),
        f"-DCMAKE_CXX_COMPILER={compiler(_WHAT)}",
        f"-DJAVA_HOME={_jdk()}",
    )


def _maven() -> list[str]:
    """Maven, without colours and progress."""
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineError(f"{_WHAT} needs mvn: {_PACKAGES}")
    return [maven, "--batch-mode", "--no-transfer-progress"]


def _jdk() -> Path:
    """The folder of the JDK: JAVA_HOME, else that of the machine's javac."""
    javac = shutil.which("javac")
    home = os.environ.get("JAVA_HOME") or (javac and str(Path(javac).resolve().parents[1]))
    if not home or not Path(home, "include", "jni.h").is_file():
        raise EngineError(f"{_WHAT} needs a JDK: {_PACKAGES}")
    return Path(home)
