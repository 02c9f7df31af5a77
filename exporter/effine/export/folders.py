"""Folders that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path


def replace_folder(folder: Path, target: Path) -> None:
    """Put a finished folder in place; an old one stays until the new one can take over.

    Args:
        folder: in a scratch folder on the target's file system, which takes the old one.
        target: where it goes.

    Raises:
        OSError: it can't be moved; what was at the target is back there.
    """
    replaced = folder.with_name("replaced")
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
