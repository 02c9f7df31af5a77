"""`effine bench`: the programs and PyTorch eager, compared as a user does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts import PHASED, Exported, questions, scores, slots
from commands import good, refused, run, write
from effine.export import pipeline, samples
from effine.export.backbones import encoder_from
from effine.export.bench import quality as quality_module
from effine.export.bench import step as step_module
from effine.export.bench.rivals.network import RivalNetwork, check_rival, reference_model
from effine.export.errors import ExportError
from effine.export.methods import known_methods, make_method
from effine.export.model import Model
from effine.export.tasks import make_task
from effine.runtime.artifact import Artifact
from networks import tiny_network

METHODS = sorted(name for name in known_methods() if name not in PHASED)
OTHERS = [name for name in METHODS if name != "adapter"]


@pytest.fixture
def exported(artifact: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks open this session's artifacts instead of exporting their own."""

    def export(
        model: str, *, method: str, task: str = "classification", **settings: object
    ) -> Artifact:
        return artifact(method, Path(model).name.split("-")[1], task)

    for module in (pipeline, quality_module, step_module):
        monkeypatch.setattr(module, "export", export)


def quality(folder: Path, model: Path, *more: object) -> list[dict[str, Any]]:
    results = folder.parent / "results.jsonl"
    common = ("--data", folder, "--model", model, "--results", results, "--threads", 1)
    rows: list[dict[str, Any]] = json.loads(good("bench", "quality", *common, "--json", *more))
    return rows


@pytest.mark.usefixtures("exported")
def test_both_learn_the_same_and_finished_runs_are_kept(
    tiny: dict[str, Path], folder: Path
) -> None:
    model, results = tiny["distilbert"], folder.parent / "results.jsonl"
    more = ("--methods", "adapter", "--seeds", "0,1", "--epochs", 3)
    rows = quality(folder, model, *more)
    assert [(row["method"], row["seeds"], row["epochs"]) for row in rows] == [
        ("head", 2, 3),
        ("adapter", 2, 3),
    ]
    for row in rows:
        assert row["equal_predictions"] >= 0.998
        assert abs(row["difference"]) <= 1 / 24
        assert row["frozen_head"] == rows[0]["effine"]

    finished = results.read_bytes()
    assert quality(folder, model, *more) == rows
    assert results.read_bytes() == finished

    results.write_bytes(finished[:-10])
    assert quality(folder, model, *more) == rows
    before, after = (
        [json.loads(x) for x in c.splitlines()] for c in (finished, results.read_bytes())
    )
    changing = {"seconds": 0, "date": "", "load": []}
    assert [record | changing for record in after] == [record | changing for record in before]
    assert after[0]["machine"]["cores"] and after[0]["command"].startswith("effine bench quality ")
    assert str(folder.parent) not in after[0]["command"]

    assert quality(folder, model, *more, "--seeds", "2")[1]["seeds"] == 3
    assert results.read_bytes().count(b"\n") == 6


@pytest.mark.usefixtures("exported")
def test_eager_is_not_trained_again_for_another_precision(
    tiny: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (folder, tiny["distilbert"], "--methods", "head", "--seeds", 0, "--epochs", 1)
    (row,) = quality(*common)
    monkeypatch.setattr(quality_module, "train_eager", None)
    fp32, int8 = quality(*common, "--backbone-precision", "int8")
    assert (fp32, int8["precision"], int8["eager"]) == (row, "int8", row["eager"])
    with pytest.raises(AssertionError, match="NoneType"):
        quality(*common[:-1], 2, "--backbone-precision", "int8")


@pytest.mark.usefixtures("exported")
def test_few_of_each_class_by_another_metric(tiny: dict[str, Path], folder: Path) -> None:
    more = ("--methods", "head", "--seeds", 0, "--per-class", 4, "--max-test", 9)
    row, *others = quality(folder, tiny["distilbert"], *more, "--metric", "macro_f1")
    assert others == [] and row["standard_error"] is None
    assert row["data"] == "things 4/class" and row["metric"] == "macro_f1"
    assert row["equal_predictions"] == 1 and abs(row["difference"]) <= 0.15
    part, *_ = quality(folder, tiny["distilbert"], *more[:4], "--train-size", 9)[1:]
    assert part["data"] == "things 9" and part["metric"] == "accuracy"


@pytest.mark.usefixtures("exported")
def test_scores(tiny: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "scored"
    folder.mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        write(folder / name, scores())
    more = ("--task", "regression", "--methods", "head", "--seeds", 0, "--epochs", 20)
    (row,) = quality(folder, tiny["distilbert-shallow"], *more)
    assert row["metric"] == "pearson" and row["equal_predictions"] >= 0.998
    assert abs(row["difference"]) <= 0.01 < row["effine"]


@pytest.mark.usefixtures("exported")
def test_tags(tiny: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "slots"
    folder.mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        write(folder / name, slots())
    task = ("--task", "token-classification")
    more = (*task, "--methods", "head", "--seeds", 0, "--epochs", 3)
    (row,) = quality(folder, tiny["bert"], *more, "--train-size", 20)
    assert row["metric"] == "entity_f1" and row["equal_predictions"] >= 0.998
    assert abs(row["difference"]) <= 0.02 < row["effine"]
    message = refused("bench", "quality", "--data", folder, *task, "--per-class", 2)
    assert message == "--per-class: --task token-classification has no class for each example"


@pytest.mark.usefixtures("exported")
def test_questions_by_article(tiny: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "asked"
    folder.mkdir()
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "question": row["question"],
                    "answers": [{"text": a["text"], "answer_start": a["start"]}],
                }
                for a in row["answers"]
            ],
        }
        for row in questions()
    ]
    articles = [{"paragraphs": paragraphs[index::5]} for index in range(5)]
    (folder / "asked.json").write_text(json.dumps({"data": articles}))
    more = ("--task", "question-answering", "--methods", "head", "--seeds", 0, "--epochs", 2)
    (row,) = quality(folder, tiny["bert"], *more)
    assert row["metric"] == "f1" and row["equal_predictions"] >= 0.95
    assert abs(row["difference"]) <= 0.1


@pytest.mark.usefixtures("exported")
def test_the_grid_never_reads_the_test_data(tiny: dict[str, Path], folder: Path) -> None:
    (folder / "dev.jsonl").write_text("not data")
    more = ("--grid", "--methods", "head", "--seeds", "0,1", "--piece-rates", "1e-2")
    points = ("--head-rates", "1e-9,1e-1", "--grid-epochs", 10)
    (row,) = quality(folder, tiny["distilbert"], *more, *points)
    assert row["points"] == 3 and row["best"] >= row["recipe"]
    results = folder.parent / "results.jsonl"
    assert results.read_bytes().count(b"\n") == 6
    assert quality(folder, tiny["distilbert"], *more, *points) == [row]
    assert results.read_bytes().count(b"\n") == 6


@pytest.mark.minilm
def test_minilm_and_eager_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_length(model: str, **settings: Any) -> Artifact:
        return pipeline.export(model, seq="24", **settings)

    monkeypatch.setattr(quality_module, "export", one_length)
    folder = tmp_path / "samples"
    folder.mkdir()
    shutil.copy(samples.TRAIN, folder / "train.jsonl")
    shutil.copy(samples.DEV, folder / "dev.jsonl")
    more = ("--methods", "adapter", "--seeds", 0, "--epochs", 3)
    for row in quality(folder, Path("minilm"), *more, "--train-size", 100, "--max-test", 50):
        assert row["equal_predictions"] >= 0.998
        assert abs(row["difference"]) <= 0.02
        assert row["effine"] >= 0.5


def test_wrong_settings_are_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "things"
    other.mkdir(parents=True)
    letter = tmp_path / "letter.txt"
    letter.write_text("dear reader\n")
    for more, message in (
        (("--task", "poetry"), "task 'poetry' is unknown; use one of"),
        (("--metric", "mse"), "--metric mse: choose from accuracy, macro_f1"),
        (("--methods", "head,magic"), "magic: not a method; known: adapter"),
        (("--seeds", "one"), "expected whole numbers from 0"),
        (("--seeds", ""), "expected whole numbers from 0"),
        (("--grid", "--grid-epochs", "0"), "expected whole numbers from 1"),
        (("--grid", "--head-rates", "high"), "expected numbers separated"),
        (("--train-size", 9, "--per-class", 2), "exclude each other"),
        (("--data", other), "the folder's name"),
        (("--data", tmp_path), "needs train.jsonl"),
        (("--results", letter), "holds something else"),
    ):
        assert message in refused("bench", "quality", "--data", folder, "--model", "no", *more)
    assert letter.read_text() == "dear reader\n"
    assert "from 1" in refused("bench", "step", "--threads", "0")
    assert "from 1" in refused("bench", "epoch", "--threads", "two")


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        ("adapter", "bert"),
        *(
            pytest.param(*case, marks=pytest.mark.matrix)
            for case in [*((method, "bert") for method in OTHERS), ("adapter", "distilbert")]
        ),
    ],
)
def test_a_step_beside_its_rival(
    artifact: Exported, tiny: dict[str, Path], method: str, architecture: str
) -> None:
    path = artifact(method, architecture).path
    common = ("bench", "step", "--artifact", path, "--model", tiny[architecture], "--threads", 1)
    found = json.loads(good(*common, "--steps", 2, "--warmup", 0, "--json"))
    (result,) = found["steps"]
    assert result["method"] == method and result["logits_difference"] < 1e-4
    assert set(result["ms"]) == {"step", "train", "eager"}
    for own in ("step", "train"):
        ratio = result["ratios"]["eager"][own]
        assert 0 < ratio["min"] <= ratio["lower"] <= ratio["median"] <= ratio["upper"]
        assert ratio["of_medians"] > 0
    programs = found["programs"][method]
    assert {name.partition("_")[0] for name in programs} == {"backbone", "train", "predict"}
    assert all(parts["delegates"] for parts in programs.values())


@pytest.mark.usefixtures("exported")
def test_steps_are_printed(tiny: dict[str, Path]) -> None:
    common = ("bench", "step", "--model", tiny["distilbert"], "--methods", "head,adapter")
    shown = good(*common, "--threads", 1, "--steps", 1, "--warmup", 0)
    assert "head fp32 cls B=4 S=16 threads=1" in shown and "adapter train_b4_s16: " in shown
    assert shown.count("of medians") == 2


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("architecture", "methods"),
    [
        ("bert", ["bitfit", "spartan"]),
        ("distilbert", ["adapter", "head"]),
        pytest.param("bert", METHODS, marks=pytest.mark.matrix),
    ],
)
def test_epochs_beside_their_rivals(
    tiny: dict[str, Path], folder: Path, architecture: str, methods: list[str]
) -> None:
    common = ("bench", "epoch", "--model", tiny[architecture], "--data", folder / "train.jsonl")
    common = (*common, "--examples", 12, "--threads", 1)
    results = json.loads(good(*common, "--methods", ",".join(methods), "--epochs", 2, "--json"))
    assert [result["method"] for result in results] == methods
    for result in results:
        assert result["examples"] == 12
        assert len(result["effine_s"]) == len(result["eager_s"]) == 2
        assert result["first_ratio"] > 0 and result["later_ratio"] > 0
    shown = good(*common, "--methods", "head", "--epochs", 1)
    assert "head fp32 12 examples" in shown and "later -" in shown


def test_a_rival_that_computes_something_else_is_refused(
    artifact: Exported, tiny: dict[str, Path]
) -> None:
    model = reference_model(artifact("spartan"), str(tiny["bert"]), perturbed=True)
    rival = RivalNetwork(model, str(tiny["bert"]))
    ids = torch.randint(1000, 20000, (2, 7))
    tokens = {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": torch.ones_like(ids)}
    assert check_rival(rival, model, tokens) < 1e-4
    with torch.no_grad():
        rival.pieces[1].values.mul_(3.0)
    with pytest.raises(ExportError, match="the rival computes something else"):
        check_rival(rival, model, tokens)


def test_what_has_no_rival_is_refused(artifact: Exported, tiny: dict[str, Path]) -> None:
    encoder = encoder_from(tiny_network("bert"))
    method = make_method("adapter", {"placement": "houlsby"})
    with pytest.raises(ExportError, match="no rival for placement=houlsby"):
        RivalNetwork(Model(encoder, method, make_task("classification", 3)), str(tiny["bert"]))
    result = run(
        "bench", "step", "--artifact", artifact("head").path, "--model", tiny["distilbert"]
    )
    assert "isn't the backbone of" in result.stderr
