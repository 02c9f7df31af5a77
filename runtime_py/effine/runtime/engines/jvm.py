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
    one_build,
    run_logged,
)
from effine.runtime.engines.program import run_program
from effine.runtime.errors import EngineError
from effine.runtime.tensors import read_tensors

MAIN = "io.github.effine.runner.MainKt"
BRIDGE = "libeffine-bridge.so"
_WHAT = "the Kotlin SDK on the JVM"
_PACKAGES = "apt install maven openjdk-17-jdk-headless"
_VERSION = "0.1.0"


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
    java = jdk() / "bin" / "java"
    bridge = build_bridge(source, build)
    made = package(source, build, "sdk")
    classes = made.parent
    path = os.pathsep.join(map(str, (classes / "test-classes", made, classes / "lib" / "*")))
    options = (f"-Deffine.bridge={bridge}", "-cp", path)
    return JvmRunner(source, (str(java), *options, MAIN))


def package(source: Path, build: Path, module: str, *options: str) -> Path:
    """The jar of a Maven module, built anew with what it needs if a source has changed since.

    Args:
        source: the folder of the Maven project.
        build: a folder for the build's output, made when missing.
        options: further arguments for Maven.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    jdk()
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineError(f"{_WHAT} needs mvn: {_PACKAGES}")
    modules = ("executorch-jvm", "sdk", module)
    made = {name: source / name / "target" / f"{name}-{_VERSION}.jar" for name in modules}
    jar = made[module]
    sources = [
        source / "pom.xml",
        *(source / name / part for name in modules for part in ("pom.xml", "src")),
    ]
    with one_build(_WHAT, build / "maven"):
        if not jar.is_file() or jar.stat().st_mtime < newest(sources):
            command = [maven, "--batch-mode", "--no-transfer-progress", "-f", str(source), *options]
            run_logged(_WHAT, build / "maven", [[*command, "package", "-DskipTests"]])
            for each in made.values():
                each.touch()
    return jar


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


def build_bridge(source: Path, build: Path) -> Path:
    """The library between the stand-ins for Android's runtime classes and ExecuTorch.

    Raises:
        EngineError: the sources or a tool are missing, or the build fails.
    """
    return cmake_build(
        _WHAT,
        source / "executorch-jvm" / "src" / "main" / "cpp",
        build / "bridge",
        BRIDGE,
        executorch_wheel(_WHAT),
        f"-DCMAKE_CXX_COMPILER={compiler(_WHAT)}",
        f"-DJAVA_HOME={jdk()}",
    ).absolute()


def jdk() -> Path:
    """The folder of the JDK: JAVA_HOME, else that of the machine's javac.

    Raises:
        EngineError: there is none.
    """
    javac = shutil.which("javac")
    home = os.environ.get("JAVA_HOME") or (javac and str(Path(javac).resolve().parents[1]))
    if not home or not Path(home, "include", "jni.h").is_file():
        raise EngineError(f"{_WHAT} needs a JDK: {_PACKAGES}")
    return Path(home)
