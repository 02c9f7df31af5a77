"""The matrix's covering set: every method on every task of bert, and on every backbone.

In stock ONNX Runtime, for which lowering takes least time. test_parity.py has a part of XNNPACK's,
`make matrix` everything.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from matrix.cases import MODELS, Case, cases
from matrix.run import PASS, outcome

pytest.importorskip("onnxruntime", reason="onnxruntime runs the programs")

IN_ONNX = {"targets": ["onnx"], "precisions": ["fp32"]}
OTHERS = [name for name in MODELS if name != "bert"]
COVERING = [
    *cases(models=["bert"], **IN_ONNX),
    *cases(models=OTHERS, tasks=["classification"], **IN_ONNX),
]
DROPS, NO_BIASES = "drops tokens, but the task needs all", "has no biases to train"
REFUSED = {
    ("gates", "token-classification", "bert"): DROPS,
    ("gates", "question-answering", "bert"): DROPS,
    ("bitfit", "classification", "modernbert"): NO_BIASES,
    ("bitfit", "classification", "t5"): NO_BIASES,
    ("bitfit", "classification", "t5-decoder"): NO_BIASES,
    ("autofreeze", "classification", "albert"): "share",
    **{
        ("gates", "classification", name): ""
        for name in ("modernbert", "mpnet", "t5", "t5-decoder")
    },
}


@pytest.mark.parametrize("case", COVERING, ids=lambda c: f"{c.method}-{c.task}-{c.model}")
def test_passes_parity_or_is_refused(case: Case, tiny: dict[str, Path]) -> None:
    found = outcome(case, tiny[case.architecture])
    refusal = REFUSED.get((case.method, case.task, case.model))
    assert (found["outcome"] == PASS) == (refusal is None), found
    assert (refusal or "") in found["reason"]
