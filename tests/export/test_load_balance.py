"""SPARTAN's load-balance loss is part of the training programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eager import GraphEngine, eager_artifact
from effine.export.errors import ExportError
from effine.runtime.parity import check_engine

BALANCED = {"load_balance": 0.5}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("spartan", BALANCED),
        ("gates", {"pieces": "spartan load_balance=0.5", "keep": "0.5", "learning": 0}),
    ],
)
def test_load_balance_is_part_of_the_programs(
    tiny: dict[str, Path], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    made = eager_artifact(tiny["bert"], tmp_path / "x.effine", method=method, options=options)
    report = check_engine(made[0], GraphEngine(*made))
    assert report.passed, [check for check in report.checks if not check.passed]


def test_load_balance_needs_whole_batches(tiny: dict[str, Path], tmp_path: Path) -> None:
    settings = {"method": "spartan", "options": BALANCED, "accumulate": 2}
    with pytest.raises(ExportError, match="--accumulate: parts of a batch"):
        eager_artifact(tiny["bert"], tmp_path / "x.effine", **settings)
