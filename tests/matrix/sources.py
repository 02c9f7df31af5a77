"""A fingerprint of sources that comments, layout and unrelated modules don't change."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import effine.export
import effine.runtime

_PACKAGES = {
    package.__name__: Path(package.__file__) for package in (effine.export, effine.runtime)
}


def fingerprint(modules: Iterable[str], file: str, text: str) -> str:
    """A hash of modules with all of effine that they import, of a file, and of a text."""
    digest = hashlib.sha256(text.encode())
    for path in (*(_path(module) for module in sorted(closure(modules))), Path(file)):
        digest.update(code_hash(path))
    return digest.hexdigest()[:16]


def closure(modules: Iterable[str]) -> set[str]:
    """Modules of effine with all those that they import.

    Raises:
        ValueError: one of `modules` doesn't exist.
    """
    queue = list(modules)
    unknown = [module for module in queue if _path(module) is None]
    if unknown:
        raise ValueError(f"{unknown[0]}: no such module of effine")
    found: set[str] = set()
    while queue:
        module = queue.pop()
        if module not in found and _path(module) is not None:
            found.add(module)
            queue += _imports(module)
    return found


@functools.cache
def _path(module: str) -> Path | None:
    """The source of a module of effine; None for anything else."""
    for package, init in _PACKAGES.items():
        if module == package:
            return init
        if module.startswith(f"{package}."):
            base = init.parent.joinpath(*module.removeprefix(f"{package}.").split("."))
            choices = (base.with_name(f"{base.name}.py"), base / "__init__.py")
            return next((path for path in choices if path.is_file()), None)
    return None


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """What a module imports by its text, also inside functions; not all of it are modules."""
    return tuple(_imported(ast.parse(_path(module).read_text(encoding="utf-8"))))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def code_hash(path: Path) -> bytes:
    """The SHA-256 of a file's syntax tree without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).digest()
