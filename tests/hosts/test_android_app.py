"""The demo app: its own tests with a model behind it, and an APK made by the Android tools."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import demo_app
from artifacts import Exported, intents
from commands import write
from effine.export.pack import pack

pytest_plugins = "runners"
PICTURES = ("empty", "before", "during", "after", "after-dark")


@pytest.fixture
def assets(artifact: Exported, tmp_path: Path) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    head = Path(shutil.copytree(artifact("head").path, tmp_path / "head.effine"))
    pack([head], android=folder, allow_unverified=True)
    write(folder / "samples.jsonl", intents())
    return folder


def test_the_app_teaches_trains_and_predicts(
    app: demo_app.DemoApp, assets: Path, tmp_path: Path
) -> None:
    """The app's tests, from the classes that are built, with real views and a real training."""
    folder = app.resources.parent / "test-classes" / "io" / "github" / "effine" / "demo"
    names = [path.stem for path in folder.glob("*Test.class")]
    java, *rest = demo_app.tests_command(app, assets, tmp_path / "config", *names)
    command = [java, f"-Deffine.pictures={tmp_path}", *rest]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-4000:]
    summary = re.search(r"^OK \((\d+) tests?\)$", done.stdout, re.M)
    assert summary is not None and int(summary[1]) >= len(names) > 0
    drawn = {(tmp_path / f"{name}.png").read_bytes() for name in PICTURES}
    assert len(drawn) == len(PICTURES) and all(picture[:4] == b"\x89PNG" for picture in drawn)


def test_the_apk_is_whole_aligned_and_signed(
    app: demo_app.DemoApp, assets: Path, tmp_path: Path
) -> None:
    problem = demo_app.missing_tool(demo_app.PACKAGES)
    if problem:
        pytest.skip(problem)
    apk = demo_app.assemble(app, assets, tmp_path / "demo.apk")
    with zipfile.ZipFile(apk) as archive:
        names = archive.namelist()
        classes = set(defined_classes(archive.read("classes.dex")))
        shipped = archive.getinfo("assets/effine/head.effine/train.pte")
    assert len(names) == len(set(names))
    assert {"AndroidManifest.xml", "resources.arsc", "assets/samples.jsonl"} < set(names)
    assert "io/github/effine/tokenizer/unicode.txt" in names
    assert not [name for name in names if name.endswith(".so")]
    assert shipped.compress_type == zipfile.ZIP_STORED
    wanted = ("demo/DemoActivity", "demo/BackgroundTraining", "Personalization")
    assert {f"Lio/github/effine/{name};" for name in wanted} < classes
    assert not [name for name in classes if name.startswith(("Lorg/pytorch/", "Landroid/"))]

    badging = output("aapt2", "dump", "badging", apk)
    for line in (
        "package: name='io.github.effine.demo' versionCode='1' versionName='0.1.0'",
        "dkVersion:'26'",  # sdkVersion or, in later releases of aapt2, minSdkVersion
        "targetSdkVersion:'34'",
        "launchable-activity: name='io.github.effine.demo.DemoActivity'",
        "application-label:'effine'",
    ):
        assert line in badging, badging
    assert "uses-permission: name='android.permission.INTERNET'" not in badging
    output("zipalign", "-c", "4", apk)
    assert "CN=effine demo" in output("apksigner", "verify", "--print-certs", apk)


def output(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def defined_classes(dex: bytes) -> Iterator[str]:
    """The names in the class_defs section of a DEX file, by its specification."""
    strings, types, classes = (struct.unpack_from("<II", dex, at) for at in (0x38, 0x40, 0x60))
    for i in range(classes[0]):
        (of_type,) = struct.unpack_from("<I", dex, classes[1] + 32 * i)
        (of_string,) = struct.unpack_from("<I", dex, types[1] + 4 * of_type)
        (at,) = struct.unpack_from("<I", dex, strings[1] + 4 * of_string)
        while dex[at] & 0x80:  # the length, as ULEB128
            at += 1
        yield dex[at + 1 : dex.index(0, at)].decode()
