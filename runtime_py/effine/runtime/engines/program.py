"""Programs that are run as processes of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from effine.runtime.errors import EngineError

_TIMEOUT_SECONDS = 3600


def run_program(program: Path, command: Sequence[str]) -> str:
    """Run a command to its end.

    Args:
        program: what is named in messages.
        command: the program with its arguments, and what runs it.

    Returns:
        What it prints.

    Raises:
        EngineError: it can't be started, or reports an error: the last line of its stderr.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{program}: no result after {_TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise EngineError(f"{program}: can't be started: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(f"{program}: {lines[-1]}")
    return done.stdout
