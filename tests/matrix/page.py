"""docs/matrix.md: what the newest record of each combination says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from effine.export.bench.commands.options import PRECISIONS
from effine.export.bench.records import Record
from effine.export.bench.report.text import table
from effine.export.lowering.target import TARGETS
from matrix.cases import METHODS, MODELS, QUANTISED_TASK, TASKS, Case, cases
from matrix.run import PASS, case_of

_HEAD = """# Matrix

Parity of every method on every task, backbone and target, made by `make matrix` from
[matrix.jsonl](matrix.jsonl) alone. Each combination is exported from a tiny random model and its
golden run replayed, as `effine parity` does: it passes, or the export refuses it with the reason
under the tables. `t5-decoder` is T5 with `--pooling decoder`. `gates` has the phases of
`pieces=lora keep=0.5`. Frozen weights in int8 and int4 are tried with {task} alone.

`make test` takes a part of it: for ONNX every method on every task of `bert`, and on every other
backbone for classification; for XNNPACK every method on `bert` for classification, and one on each
of a few other backbones and tasks."""


def render(records: Sequence[Record]) -> str:
    """The page; of records of the same combination the last one counts."""
    newest = {case_of(dict(record)): record for record in records}
    found = {case: newest[case] for case in cases() if case in newest}
    missing = sum(1 for _ in cases()) - len(found)
    outcomes = Counter(record["outcome"] for record in found.values())
    counts = [f"{count} {name}" for name, count in sorted(outcomes.items())]
    counts += [f"{missing} not run (-)"] if missing else []
    reasons = list(dict.fromkeys(r["reason"] for r in found.values() if r["outcome"] != PASS))
    parts = [
        _HEAD.format(task=QUANTISED_TASK),
        f"Combinations: {', '.join(counts)}.",
        *_conditions(list(found.values())),
    ]
    for target, precision in itertools.product(TARGETS, PRECISIONS):
        tasks = TASKS if precision == "fp32" else (QUANTISED_TASK,)
        rows = []
        for method, task in itertools.product(METHODS, tasks):
            row = [found.get(Case(method, task, model, target, precision)) for model in MODELS]
            rows.append([method, task, *(_cell(record, reasons) for record in row)])
        parts += [f"## {target}, {precision}", table(["method", "task", *MODELS], rows)]
    if reasons:
        lines = (f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
        parts += ["## Reasons", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _cell(record: Record | None, reasons: Sequence[str]) -> str:
    if record is None:
        return "-"
    if record["outcome"] == PASS:
        return PASS
    return f"{record['outcome']} ({reasons.index(record['reason']) + 1})"


def _conditions(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    told = (", ".join(f"{k} {v}" for k, v in record["versions"].items()) for record in records)
    days = sorted(record["date"][:10] for record in records)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return [f"Run with {'; and '.join(dict.fromkeys(told))}. {when}."]
