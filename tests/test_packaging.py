"""What the wheel contains."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        ".".join(file.relative_to(ROOT / root).parent.parts)
        for root in ("exporter", "runtime_py")
        for file in (ROOT / root).rglob("*.py")
    }
    assert set(settings["packages"]) == found
