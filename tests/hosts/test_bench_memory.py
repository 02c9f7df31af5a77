"""`effine bench memory` and `effine bench tasks`: peaks of the native runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts import Exported
from commands import good
from effine.export.bench.tasks import bench_tasks
from effine.runtime.engines.native import Runner

pytest_plugins = "runners"


def test_memory_with_one_more_task_after_another(artifact: Exported, runner: Runner) -> None:
    record = bench_tasks([artifact("head"), artifact("read")], runner)
    assert [task["method"] for task in record["tasks"]] == ["head", "read"]
    first, second = record["tasks"]
    assert 0 < first["resident"] <= first["peak"] <= second["peak"]
    assert second["resident"] <= second["peak"]


@pytest.mark.matrix
@pytest.mark.usefixtures("runner")
def test_peaks_beside_pytorch(tiny: dict[str, Path]) -> None:
    common = ("--model", tiny["bert-shallow"], "--methods", "head,adapter")
    records = json.loads(good("bench", "memory", *common, "--precisions", "fp32", "--json"))
    assert [record["method"] for record in records] == ["head", "adapter"]
    for record in records:
        assert record["peak"] > 5e6 and min(record["rivals"].values()) > 0
        assert record["predicted"] == pytest.approx(record["peak"], rel=0.5)
    told = good("bench", "tasks", *common)
    assert told.count("resident") == 2 and "+ adapter" in told
