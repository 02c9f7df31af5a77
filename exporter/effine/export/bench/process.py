"""Memory of this process, in bytes."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory() -> int:
    """The largest resident memory so far; getrusage would count the parent's."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def children_peak_memory() -> int:
    """The largest resident memory of any child that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT


def forget_peak() -> int:
    """Give back what is free and start the peak anew, where the system can (Linux).

    Returns:
        The resident memory now.
    """
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
    return _status("VmRSS") or peak_memory()


def in_fresh_process(call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """What a call returns in a new process, which has imported what it needs and nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(call, *args, **kwargs).result()


def _status(field: str) -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
