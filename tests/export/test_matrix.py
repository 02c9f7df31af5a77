"""The matrix: what is run again, what a crash is, and a page that follows from the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from effine.export import golden
from effine.export.bench.records import read_records
from judges import dies_over_far
from matrix.__main__ import main
from matrix.cases import METHODS, MODELS, TASKS, Case, cases
from matrix.page import render
from matrix.run import Isolated, Outcome, outcome, run
from matrix.sources import closure, code_hash

REFUSED = "--method gates: drops tokens, but the task needs all of them"
ADAPTER = Case("adapter", "classification", "bert", "xnnpack")
GATES = Case("gates", "token-classification", "albert", "onnx")
FAR = Case("far", "classification", "t5-decoder", "xnnpack")


def invented(case: Case, _: Path) -> Outcome:
    if case == GATES:
        return {"outcome": "refused", "reason": REFUSED}
    if case == FAR:
        return {"outcome": "failed", "reason": "loss: 2 exceeds 0.1 at step 3"}
    return {"outcome": "pass", "reason": ""}


def run_again(results: Path, *chosen: Case) -> list[str]:
    """The combinations that were run, by method."""
    told: list[str] = []
    run(chosen, results, invented, told.append)
    return [line.split()[0] for line in told]


def command(results: Path, *options: str) -> Result:
    files = ("--results", str(results), "--out", str(results.with_suffix(".md")))
    return CliRunner().invoke(main, [*files, *options])


def row(page: str, heading: str, method: str, task: str) -> dict[str, str]:
    lines = page.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    (found,) = [line for line in cells if line[:2] == [method, task]]
    return dict(zip(cells[0], found, strict=True))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "matrix.jsonl"
    run_again(path, ADAPTER, GATES, FAR)
    return path


def test_every_combination_is_there_once() -> None:
    every = list(cases())
    assert len(set(every)) == len(every)
    assert len(every) == len(METHODS) * len(MODELS) * 2 * (len(TASKS) + 2)
    assert set(cases(["far"], models=["t5-decoder"], precisions=["int8"])) == {
        Case("far", "classification", "t5-decoder", target, "int8")
        for target in ("xnnpack", "onnx")
    }


def test_what_is_held_is_skipped_but_failures_and_other_sources_are_run(results: Path) -> None:
    assert run_again(results, ADAPTER, GATES, FAR) == ["far"]
    old = read_records(results)[0] | {"fingerprint": "0" * 16}
    with results.open("a") as file:
        file.write(json.dumps(old) + "\n" + '{"kind": "torn')
    assert run_again(results, ADAPTER, GATES) == ["adapter"]
    assert run_again(results, ADAPTER, GATES) == []


def test_a_process_that_dies_is_a_failure_and_replaced() -> None:
    with Isolated(dies_over_far) as judge:
        found = [judge(method, None) for method in ("head", "far", "head")]
    assert [one["outcome"] for one in found] == ["pass", "failed", "pass"]
    assert found[1]["reason"] == "the process died"


def test_a_refusal_is_the_message_of_the_export(tiny: dict[str, Path]) -> None:
    for case in (GATES, Case("gates", "token-classification", "bert", "onnx")):
        found = outcome(case, tiny[case.architecture])
        assert found == {"outcome": "refused", "reason": REFUSED}


def test_a_golden_run_that_learns_nothing_is_a_failure(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "_FELL_BY", 0.0)
    found = outcome(Case("head", "classification", "bert", "onnx"), tiny["bert"])
    assert found["outcome"] == "failed"
    assert "the loss doesn't fall" in found["reason"]


@pytest.mark.matrix
def test_one_that_passes(tiny: dict[str, Path]) -> None:
    case = Case("head", "classification", "bert", "xnnpack")
    assert outcome(case, tiny["bert"]) == {"outcome": "pass", "reason": ""}


def test_the_page_says_what_the_newest_records_say(results: Path) -> None:
    page = render(read_records(results))
    assert row(page, "xnnpack, fp32", "adapter", "classification")["bert"] == "pass"
    assert row(page, "onnx, fp32", "gates", "token-classification")["albert"] == "refused (2)"
    assert row(page, "xnnpack, fp32", "far", "classification")["t5-decoder"] == "failed (1)"
    assert f"\n2. {REFUSED}\n" in page and "\n1. loss: 2 exceeds" in page
    missing = len(list(cases())) - 3
    assert f"1 failed, 1 pass, 1 refused, {missing} not run (-)" in page
    newer = read_records(results)[0] | {"outcome": "failed", "reason": "worse"}
    page = render([*read_records(results), newer])
    assert row(page, "xnnpack, fp32", "adapter", "classification")["bert"] == "failed (1)"


def test_a_stale_page_is_noticed_and_wrong_names_are_refused(results: Path) -> None:
    page = results.with_suffix(".md")
    assert command(results, "--check").exit_code == 1
    page.write_text(render(read_records(results)), encoding="utf-8")
    assert command(results, "--check").exit_code == 0
    run_again(results, Case("head", "regression", "mpnet", "onnx"))
    stale = command(results, "--check")
    assert stale.exit_code == 1 and "matrix.md: out of date; run `make matrix`" in stale.stderr
    wrong = command(results, "--models", "bert,gpt")
    assert wrong.exit_code == 2 and "--models gpt: choose from bert, distil" in wrong.stderr


def test_nothing_is_run_that_is_held(results: Path) -> None:
    chosen = ("--methods", "gates", "--tasks", "token-classification", "--targets", "onnx")
    done = command(results, *chosen, "--models", "albert", "--precisions", "fp32")
    assert done.exit_code == 0 and done.stderr == ""
    assert "refused (2)" in results.with_suffix(".md").read_text(encoding="utf-8")


def test_a_fingerprint_follows_imports_and_ignores_comments(tmp_path: Path) -> None:
    modules = closure(["effine.export.methods.adapter", "effine.export.pipeline"])
    assert {"effine.export.encoder", "effine.runtime.manifest_checks"} < modules
    assert not modules & {"effine.export.methods.far", "effine.export.tasks.regression"}
    every = [case.fingerprint() for case in (ADAPTER, GATES, FAR)]
    assert len(set(every)) == 3
    with pytest.raises(ValueError, match=r"backbones\.gpt: no such module"):
        closure(["effine.export.backbones.gpt"])
    hashes = []
    for text in ("def f():\n  'says'\n  return 1", "# more\ndef f():\n return  1", "def f(): 2"):
        path = tmp_path / f"{len(hashes)}.py"
        path.write_text(text)
        hashes.append(code_hash(path))
    assert hashes[0] == hashes[1] != hashes[2]
