"""Parts of data sets and tables of results, by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from effine.export.bench.subsets import draw, hold_out
from effine.export.bench.table import as_text, grid_rows, quality_rows
from effine.export.methods import known_methods
from effine.runtime.examples import Example

COUNTS = {"common": 60, "known": 30, "rare": 10}


def examples(counts: dict[str, int]) -> list[Example]:
    made = [Example(f"{label} {i}", label=label) for label in counts for i in range(counts[label])]
    return [made[i] for i in np.random.default_rng(9).permutation(len(made))]


def count(part: list[Example]) -> dict[str, int]:
    return dict(Counter(str(example.label) for example in part))


def texts(part: list[Example]) -> list[str]:
    return [example.text for example in part]


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        (COUNTS, 20, {"common": 12, "known": 6, "rare": 2}),
        (COUNTS, 17, {"common": 10, "known": 5, "rare": 2}),
        (COUNTS, 1000, COUNTS),
        ({"common": 97, "a": 1, "b": 1, "c": 1}, 10, {"common": 7, "a": 1, "b": 1, "c": 1}),
        (COUNTS, 2, {"common": 1, "known": 1, "rare": 1}),
    ],
)
def test_a_part_has_the_labels_proportions(
    counts: dict[str, int], size: int, expected: dict[str, int]
) -> None:
    assert count(draw(examples(counts), size, None, seed=0)) == expected


def test_a_part_follows_the_seed_and_keeps_the_order() -> None:
    whole = examples(COUNTS)
    first, again, other = (texts(draw(whole, 20, None, seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert first == [text for text in texts(whole) if text in first]
    assert draw(whole, None, None, seed=0) == whole
    assert set(texts(draw(whole, 20, None, 0))) < set(texts(draw(whole, 40, None, 0)))


def test_so_many_of_each_label() -> None:
    assert count(draw(examples(COUNTS), None, 20, seed=0)) == {
        "common": 20,
        "known": 20,
        "rare": 10,
    }


def test_scores_have_no_labels_to_stratify_by() -> None:
    scored = [Example(str(i), score=float(i)) for i in range(30)]
    assert len(draw(scored, 7, None, seed=0)) == 7


def test_a_stratified_fifth_is_held_out() -> None:
    whole = examples(COUNTS)
    train, dev = hold_out(whole, seed=0)
    assert count(dev) == {"common": 12, "known": 6, "rare": 2}
    assert not set(texts(train)) & set(texts(dev))
    assert sorted(texts(train) + texts(dev)) == sorted(texts(whole))
    assert hold_out(whole, seed=0) == (train, dev) != hold_out(whole, seed=1)


def record(kind: str, method: str, seed: int, **more: Any) -> dict[str, Any]:
    setting = {
        "data": "snippets",
        "task": "classification",
        "metric": "accuracy",
        "model": "tiny",
        "precision": "fp32",
    }
    sizes = {"train_size": 100, "per_class": None, "max_test": None, "epochs": None}
    return {"kind": kind, **setting, **sizes, "method": method, "seed": seed, **more}


def run(method: str, seed: int, effine: float, eager: float, **more: Any) -> dict[str, Any]:
    scores = {"effine": effine, "eager": eager, "equal_predictions": 1 - seed / 100}
    return record("run", method, seed, **scores, **more)


def test_rows_hold_means_and_the_paired_standard_error() -> None:
    effine, eager = [0.80, 0.90, 0.70], [0.81, 0.88, 0.72]
    runs = [run("lora", seed, *pair) for seed, pair in enumerate(zip(effine, eager, strict=True))]
    (row,) = quality_rows(runs)
    differences = [-0.01, 0.02, -0.02]
    mean = sum(differences) / 3
    deviations = sum((d - mean) ** 2 for d in differences)
    assert row["seeds"] == 3 and row["data"] == "snippets 100"
    assert row["effine"] == pytest.approx(0.8) and row["eager"] == pytest.approx(2.41 / 3)
    assert row["difference"] == pytest.approx(mean)
    assert row["standard_error"] == pytest.approx((deviations / 2) ** 0.5 / 3**0.5)
    assert row["equal_predictions"] == 0.98
    assert row["frozen_head"] is None


def test_the_frozen_head_beside_a_row_is_that_of_the_same_setting() -> None:
    rows = quality_rows(
        [
            run("head", 0, 0.5, 0.5),
            run("head", 1, 0.7, 0.7),
            run("lora", 0, 0.9, 0.9),
            run("head", 0, 0.1, 0.1, train_size=None),
            run("head", 0, 0.2, 0.2, epochs=3),
            record("grid", "lora", 0, score=1.0),
        ]
    )
    assert [(r["method"], r["data"], r["epochs"], r["frozen_head"]) for r in rows] == [
        ("head", "snippets", None, 0.1),
        ("head", "snippets 100", None, pytest.approx(0.6)),
        ("lora", "snippets 100", None, pytest.approx(0.6)),
        ("head", "snippets 100", 3, 0.2),
    ]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 0.75), ("mse", 0.4)])
def test_the_best_point_of_a_grid_is_the_best_mean(metric: str, best: float) -> None:
    def tried(head_rate: float, *scores: float) -> list[dict[str, Any]]:
        rates = {"piece_rate": recipe.piece_rate, "head_rate": head_rate}
        point = {**rates, "epochs": recipe.epochs, "metric": metric}
        return [
            record("grid", "lora", seed, **point, score=score) for seed, score in enumerate(scores)
        ]

    recipe = known_methods()["lora"].recipe
    others = tried(1e-1, 0.4, 0.4) + tried(1e-3, 0.9, 0.6) + tried(1e-4, 1.0)
    (row,) = grid_rows(tried(recipe.head_rate, 0.5, 0.7) + others)
    assert row["points"] == 3 and row["recipe"] == pytest.approx(0.6)
    assert row["best"] == pytest.approx(best)
    assert row["head_rate"] == (1e-3 if metric == "accuracy" else 1e-1)


def test_rows_become_aligned_columns() -> None:
    assert as_text([]) == "no results"
    rows = [{"method": "head", "score": 0.98765}, {"method": "spartan", "score": None}]
    assert as_text(rows) == "method   score\nhead     0.9877\nspartan  -"
