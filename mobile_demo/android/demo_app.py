"""The demo app without Gradle: an APK, and pictures of its screen while it really trains.

    python mobile_demo/android/demo_app.py apk out/effine-demo.apk
    python mobile_demo/android/demo_app.py pictures docs/android

Both take the model from the app's assets, which `make app-assets` fills.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from effine.runtime.engines.jvm import build_bridge, jdk, package
from effine.runtime.errors import EffineError, EngineError

ANDROID = Path(__file__).resolve().parent
ASSETS = ANDROID / "app" / "src" / "main" / "assets"
BUILD = Path("build")
PACKAGES = {"aapt2": "aapt", "zipalign": "zipalign", "apksigner": "apksigner"}
MIN_API = 26
ROBOLECTRIC = (
    "-Drobolectric.offline=true",
    f"-Drobolectric.dependency.dir={ANDROID / 'target' / 'robolectric'}",
    "-Dorg.robolectric.packagesToNotAcquire=org.pytorch.executorch.",
)
_PASSWORD = ("--ks-pass", "pass:android")


@dataclass(frozen=True)
class DemoApp:
    """The app as Maven has built it: without its model.

    Args:
        resources: an APK with nothing but the manifest and the resources.
        jars: the classes that go into the app.
        class_path: of its tests.
    """

    resources: Path
    jars: tuple[Path, ...]
    class_path: tuple[Path, ...]

    def jar(self, start: str) -> Path:
        """A jar of the class path, by the start of its name."""
        return next(path for path in self.class_path if path.name.startswith(start))


def missing_tool(names: Iterable[str]) -> str | None:
    """The first of these tools that isn't there, with the remedy."""
    for name in names:
        if shutil.which(name) is None:
            return f"the demo app needs {name}: apt install {PACKAGES[name]}"
    return None


def build(folder: Path = BUILD / "jvm") -> DemoApp:
    """Compile the app and its tests, unless they are newer than their sources.

    Raises:
        EngineError: a tool is missing, or the build fails.
    """
    _need("aapt2")
    made = package(ANDROID, folder, "app", "-Papp")
    target = made.parent
    listed = (target / "test-class-path").read_text(encoding="utf-8").strip().split(os.pathsep)
    libraries = tuple(map(Path, listed))
    shipped = [path for path in libraries if path.name.startswith(("sdk-", "kotlin-stdlib-"))]
    robolectric = ANDROID / "target" / "robolectric" / "classes.jar"
    tests = (target / "test-classes", target / "classes", *libraries, robolectric)
    return DemoApp(target / "resources.apk", (made, *shipped), tests)


def with_assets(app: DemoApp, assets: Path, out: Path) -> Path:
    """The resources together with a folder of assets, which stay uncompressed."""
    shutil.copyfile(app.resources, out)
    with zipfile.ZipFile(out, "a") as archive:
        for file in sorted(path for path in assets.rglob("*") if path.is_file()):
            archive.write(file, Path("assets", file.relative_to(assets)), zipfile.ZIP_STORED)
    return out


def assemble(app: DemoApp, assets: Path, out: Path) -> Path:
    """Write an APK without native libraries, aligned, and signed with a key of this checkout.

    Raises:
        EngineError: a tool is missing or reports an error.
    """
    _need("zipalign", "apksigner")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="effine-") as scratch:
        unaligned = with_assets(app, assets, Path(scratch, "unaligned.apk"))
        _dex(app, Path(scratch))
        with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(Path(scratch).glob("classes*.dex")):
                archive.write(file, file.name)
            _add_java_resources(archive, app.jars)
        _run("zipalign", "-f", "4", unaligned, out)
    _run("apksigner", "sign", "--ks", _key(), *_PASSWORD, out)
    out.with_name(f"{out.name}.idsig").unlink(missing_ok=True)
    return out


def tests_command(app: DemoApp, assets: Path, scratch: Path, *classes: str) -> list[str]:
    """What runs test classes of the app with a folder of assets.

    Args:
        scratch: a folder for the APK that the tests read, which must stay until they have run.
    """
    config = scratch / "com" / "android" / "tools" / "test_config.properties"
    config.parent.mkdir(parents=True)
    apk = with_assets(app, assets, scratch / "tested.apk")
    config.write_text(
        f"android_merged_manifest={app.resources.with_name('AndroidManifest.xml')}\n"
        f"android_resource_apk={apk}\n"
        "android_custom_package=io.github.effine.demo\n",
        encoding="utf-8",
    )
    return [
        str(jdk() / "bin" / "java"),
        f"-Deffine.bridge={build_bridge(ANDROID, BUILD / 'jvm')}",
        *ROBOLECTRIC,
        *("-cp", os.pathsep.join(map(str, (scratch, *app.class_path)))),
        "org.junit.runner.JUnitCore",
        *(f"io.github.effine.demo.{name}" for name in classes),
    ]


def draw(app: DemoApp, assets: Path, out: Path) -> None:
    """Draw the app's screen before, during and after a training, by its test.

    Raises:
        EngineError: the test fails; what it printed is in a file beside the pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="effine-") as scratch:
        java, *rest = tests_command(app, assets, Path(scratch), "DemoTest")
        command = [java, f"-Deffine.pictures={out.resolve()}", *rest]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace")
    if done.returncode != 0:
        (out / "failure.log").write_text(done.stdout, encoding="utf-8")
        raise EngineError(f"the app's test failed; see {out / 'failure.log'}")


def _dex(app: DemoApp, out: Path) -> None:
    """The classes for Android; those of the runtime come with its AAR, and are not in here."""
    libraries = [app.jar("android-all-"), app.jar("executorch-jvm-")]
    _run(
        *(jdk() / "bin" / "java", "-cp", app.jar("r8-"), "com.android.tools.r8.D8"),
        *("--release", "--min-api", MIN_API, "--output", out),
        *(argument for library in libraries for argument in ("--lib", library)),
        *app.jars,
    )


def _add_java_resources(archive: zipfile.ZipFile, jars: Iterable[Path]) -> None:
    """What jars hold besides classes, such as the tokenizer's tables."""
    for jar in jars:
        with zipfile.ZipFile(jar) as content:
            for name in content.namelist():
                if not name.startswith("META-INF/") and not name.endswith((".class", "/")):
                    archive.writestr(name, content.read(name))


def _key() -> Path:
    """A key for debugging, made once."""
    key = BUILD / "debug.keystore"
    if not key.is_file():
        key.parent.mkdir(parents=True, exist_ok=True)
        _run(
            *(jdk() / "bin" / "keytool", "-genkeypair", "-keystore", key, "-storepass", "android"),
            *("-alias", "debug", "-keyalg", "EC", "-groupname", "secp256r1"),
            *("-validity", "10000", "-dname", "CN=effine demo"),
        )
    return key


def _need(*tools: str) -> None:
    problem = missing_tool(tools)
    if problem:
        raise EngineError(problem)


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        raise EngineError(f"{Path(words[0]).name}: {lines[-1]}")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("apk", "pictures"))
    parser.add_argument("out", type=Path, help="the APK, or a folder for the pictures")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    chosen = parser.parse_args()
    try:
        if not (chosen.assets / "effine" / "bundle.json").is_file():
            raise EngineError(f"{chosen.assets}: no model there; run make app-assets")
        if chosen.what == "pictures":
            draw(build(), chosen.assets, chosen.out)
        else:
            _need(*PACKAGES)
            size = assemble(build(), chosen.assets, chosen.out).stat().st_size
            print(f"{chosen.out}: {size:,} bytes, without the runtime's native libraries")
    except EffineError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
