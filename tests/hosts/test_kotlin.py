"""The SDK's own tests, in Kotlin."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import demo_app
from artifacts import Exported
from effine.runtime.engines.jvm import JvmRunner

pytest_plugins = "runners"
VECTORS = Path(__file__).parents[1] / "vectors"


def test_the_kotlin_tests_pass(jvm: JvmRunner, artifact: Exported) -> None:
    """From the classes that are built: Maven isn't run again beside other tests."""
    target = jvm.source / "sdk" / "target"
    robolectric = jvm.source / "target" / "robolectric"
    classes = target / "test-classes"
    names = [
        ".".join(path.relative_to(classes).with_suffix("").parts)
        for path in classes.rglob("*Test.class")
    ]
    properties = {
        "effine.vectors": VECTORS,
        "effine.artifact": artifact("head").path,
    }
    java, *options, path, _ = jvm.command
    path = f"{path}:{(target / 'test-class-path').read_text()}:{robolectric / 'classes.jar'}"
    given = [f"-D{name}={value}" for name, value in properties.items()]
    command = [java, *demo_app.ROBOLECTRIC, *given, *options, path]
    command += ["org.junit.runner.JUnitCore", *names]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    summary = re.search(r"^OK \((\d+) tests\)$", done.stdout, re.M)
    assert summary is not None and int(summary[1]) > len(names) > 0
