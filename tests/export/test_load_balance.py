"""Every method on every task: what is captured trains as PyTorch does, before any lowering.

Lowering knows nothing of tasks. Parity of lowered programs is in test_parity.py for one method of
each task, and in the matrix for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts import DATA, DROPS_TOKENS, FEW_PHASES, ON_TOKENS, PHASED
from eager import GraphEngine, eager_artifact
from effine.export.errors import ExportError
from effine.export.methods import known_methods
from effine.runtime.parity import check_engine

TASKS = ("regression", "multilabel", "token-classification", "question-answering")
BALANCED = {"load_balance": 0.5}


def check(model: Path, folder: Path, method: str, task: str, options: dict[str, Any]) -> None:
    artifact, graphs = eager_artifact(
        model, folder / "x.effine", method=method, task=task, data=DATA[task](), options=options
    )
    report = check_engine(artifact, GraphEngine(artifact, graphs))
    assert report.passed, [check for check in report.checks if not check.passed]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", known_methods())
def test_the_captured_programs_train_as_pytorch_does(
    tiny: dict[str, Path], tmp_path: Path, method: str, task: str
) -> None:
    options = FEW_PHASES.get(method, {})
    model = tiny["bert" if method in (*PHASED, "read") else "bert-shallow"]
    if method == DROPS_TOKENS and task in ON_TOKENS:
        with pytest.raises(ExportError, match="drops tokens, but the task needs all"):
            check(model, tmp_path, method, task, options)
    else:
        check(model, tmp_path, method, task, options)


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
    check(tiny["bert"], tmp_path, method, "classification", options)


def test_load_balance_needs_whole_batches(tiny: dict[str, Path], tmp_path: Path) -> None:
    settings = {"method": "spartan", "options": BALANCED, "accumulate": 2}
    with pytest.raises(ExportError, match="--accumulate: parts of a batch"):
        eager_artifact(tiny["bert"], tmp_path / "x.effine", **settings)
