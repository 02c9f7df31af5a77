"""The toolchain that runs on the workstation."""

from __future__ import annotations

from typing import Any

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and with it torch and executorch, only when it is used."""
    if name == "export":
        from effine.export.pipeline import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
