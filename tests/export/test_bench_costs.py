"""`effine bench scaling`, `size` and `export`: what they measure, and the fits by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from artifacts import Exported
from commands import good, refused
from effine.export.bench import scaling as scaling_module
from effine.export.bench import step as step_module
from effine.export.bench.scaling import fit_layers, fit_size
from effine.export.bench.size import WEIGHTS
from effine.export.bench.timing import alternate, ratio, spread
from effine.runtime.artifact import Artifact


def test_turns_alternate_and_the_warmup_is_not_counted() -> None:
    calls: list[str] = []

    def turn(name: str, seconds: float) -> float:
        calls.append(name)
        return seconds

    turns = {"a": lambda: turn("a", 1.0), "b": lambda: turn("b", 2.0)}
    assert alternate(turns, steps=2, warmup=1) == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert "".join(calls) == "ababab"


def test_a_ratio_is_of_steps_in_the_same_round() -> None:
    found = ratio([1.0, 4.0, 3.0], [2.0, 2.0, 3.0])
    assert found["median"] == 1.0 and found["min"] == 0.5 and found["max"] == 2.0
    assert found["of_medians"] == 1.5
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0])["lower"] == 2.0


def test_the_fits_find_the_coefficients() -> None:
    points = [
        {"batch": batch, "seq": seq, "ms": 3.0 + 0.5 * batch * seq + 0.01 * batch * seq**2}
        for batch in (1, 4, 8)
        for seq in (16, 32, 64)
    ]
    fit = fit_size(points)
    assert (fit["a"], fit["b"], fit["c"]) == pytest.approx((3.0, 0.5, 0.01))
    assert fit["r2"] == pytest.approx(1.0)
    points[0]["ms"] += 50.0
    assert 0.0 < fit_size(points)["r2"] < 0.999
    layers = [{"above": above, "ms": 2.0 + 7.0 * above} for above in (1, 2, 6)]
    line = fit_layers(layers, "ms")
    assert (line["a"], line["b"], line["r2"]) == pytest.approx((2.0, 7.0, 1.0))


def test_scaling(
    artifact: Exported, tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def export(model: str, **settings: Any) -> Artifact:
        asked.append(settings)
        return artifact("read")

    monkeypatch.setattr(scaling_module, "export", export)
    results = tmp_path / "results.jsonl"
    common = ("bench", "scaling", "--model", tiny["bert"], "--batches", "1,4", "--seqs", "16,8")
    common = (*common, "--steps", 1, "--warmup", 0, "--results", results)
    shown = good(*common)
    (record,) = map(json.loads, results.read_text().splitlines())
    assert record["kind"] == "scaling" and len(record["points"]) == 4
    assert all(point["ms"] > 0 for point in record["points"])
    assert [layer["first_layer"] for layer in record["layers"]] == [1, 2]
    assert [(s.get("batch"), s["seq"], s.get("first_layer")) for s in asked] == [
        (1, "8,16", None),
        (4, "8,16", None),
        (4, "16", 1),
        (4, "16", 2),
    ]
    assert shown.count("above the cut") == 2 and shown.count("R2") == 3
    assert "no pieces inside" in refused(*common, "--method", "head")
    assert "has 2 layers" in refused(*common, "--first-layers", "1,3")
    assert "choose from fp32" in refused("bench", "size", "--precisions", "fp16")
    assert "need 4 points" in refused(*common, "--seqs", "16")


@pytest.mark.matrix
def test_sizes_by_file_and_beside_rivals(
    artifact: Exported, tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(model: str, *, method: str, backbone_precision: str, **settings: Any) -> Artifact:
        return artifact(method, "distilbert", "regression", backbone_precision)

    monkeypatch.setattr(step_module, "export", export)
    results, model = tmp_path / "results.jsonl", tiny["distilbert-shallow"]
    common = ("bench", "size", "--model", model, "--methods", "head", "--precisions", "fp32")
    shown = good(*common, "--results", results)
    assert "backbone.ptd" in shown and shown.count("ratio") == 3
    (record,) = map(json.loads, results.read_text().splitlines())
    folder = artifact("head", "distilbert", "regression").path
    assert record["files"] == {
        file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()
    }
    weights = record["rivals"][WEIGHTS]
    assert (model / "model.safetensors").stat().st_size == pytest.approx(weights, rel=0.01)
    assert record["unavailable"] == {} and len(record["rivals"]) == 3
    assert all(size > weights for name, size in record["rivals"].items() if name != WEIGHTS)


@pytest.mark.matrix
def test_an_export_by_stage(tiny: dict[str, Path]) -> None:
    common = ("bench", "export", "--model", tiny["distilbert-shallow"], "--methods", "head")
    (record,) = json.loads(
        good(*common, "--precisions", "fp32", "--batch", 2, "--seq", 8, "--json")
    )
    assert list(record["stages"]) == [
        "starting Python",
        "loading the backbone",
        "measuring the frozen head",
        "recording the golden run",
        "capturing the programs",
        "lowering the programs",
        "writing the artifact",
    ]
    assert sum(record["stages"].values()) == pytest.approx(record["seconds"])
    assert min(record["stages"].values()) > 0
    assert record["peak"] > 50e6 and record["batch"] == 2 and record["seqs"] == [8]


def test_lengths_for_a_dynamic_program_leave_room_to_trace() -> None:
    assert "above 24" in refused("bench", "shapes", "--seqs", "8,24", "--model", "no")


@pytest.mark.matrix
def test_one_program_for_all_lengths(tiny: dict[str, Path]) -> None:
    common = ("bench", "shapes", "--model", tiny["bert"], "--seqs", "8,32", "--batch", 2)
    record = json.loads(good(*common, "--steps", 2, "--warmup", 0, "--json"))
    assert [length["seq"] for length in record["lengths"]] == [8, 32]
    assert all(length["ratio"]["min"] > 0 for length in record["lengths"])
    assert min(record["growth"].values()) > 0
