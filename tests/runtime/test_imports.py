"""The direction of the design: the exporter depends on the runtime, never the reverse."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import effine.runtime

ROOT = Path(effine.runtime.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
NEEDS_TORCH = "engines/executorch.py"


def imported(path: Path) -> Iterator[str]:
    """What a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_the_runtime_needs_no_exporter_and_only_one_engine_needs_torch(module: str) -> None:
    names = list(imported(ROOT / module))
    assert not [name for name in names if name.startswith("effine.export")]
    packages = {name.partition(".")[0] for name in names}
    assert bool(packages & {"torch", "executorch", "transformers"}) == (module == NEEDS_TORCH)
