"""The SDK's own tests, in Kotlin."""

from __future__ import annotations

import re
import subprocess

from jvm_runner import SOURCE

from effine.runtime.engines.jvm import JvmRunner, maven_command

pytest_plugins = "jvm_runner"


def test_the_kotlin_tests_pass(jvm: JvmRunner) -> None:
    command = [*maven_command(), "-f", str(SOURCE), "test"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    summary = re.search(r"Tests run: (\d+), Failures: 0, Errors: 0, Skipped: 0\n", done.stdout)
    assert summary is not None and int(summary[1]) > 0
