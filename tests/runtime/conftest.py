"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest

from artifacts import Exported
from effine.runtime.artifact import Artifact


@pytest.fixture
def head(artifact: Exported) -> Artifact:
    """A small artifact whose head alone trains."""
    return artifact("head")
