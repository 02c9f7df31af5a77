"""`effine bench papers`: the papers' comparisons on tiny models, and their bounds by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from commands import good, refused, run
from eager import GraphEngine, Graphs, eager_artifact
from effine.export.bench import own as own_module
from effine.export.bench.papers import PAPERS, workbench
from effine.export.bench.papers.autofreeze import filling_updates, most_speedup
from effine.export.bench.papers.far import allowed_ms
from effine.export.bench.papers.gates import enough, lean_share, real_dropped
from effine.export.bench.papers.read import side_macs
from effine.export.bench.papers.work import (
    Dims,
    Rates,
    Work,
    crossed_macs,
    moved_bytes,
    pass_macs,
    step_macs,
)
from effine.export.methods.read import DepthGRU
from effine.runtime import trainer as trainer_module
from effine.runtime.artifact import Artifact
from effine.runtime.errors import EngineError
from effine.runtime.policies.gates import counts, falling
from networks import HIDDEN, WIDTH, tiny_network
from tiny_artifact import make_manifest

DIMS = Dims(hidden=2, ffn=3, depth=4)
WEIGHTS, SCORES = 4 * 5 * 4 + 2 * 5 * 6, 2 * 25 * 2
BLOCK = WEIGHTS + SCORES
QUICK = ("spartan", "autofreeze")
PARTS = {
    "read": {"epochs", "depth"},
    "spartan": {"predict", "run"},
    "far": {"step", "run"},
    "autofreeze": {"machine", "run"},
    "gates": {"rungs", "run"},
}
SETTING = {
    "paper": "far",
    "arm": None,
    "model": "tiny",
    "precision": "fp32",
    "data": "things",
    "examples": 24,
    "max_test": None,
    "epochs": None,
    "batch": 2,
    "threads": 1,
    "seed": None,
}


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs the captured graphs instead of programs; there is no native runner."""
    made: dict[Path, Graphs] = {}

    def export(model: str, *, out: Path, **settings: Any) -> Artifact:
        artifact, made[out] = eager_artifact(Path(model), out, **settings | {"seq": "16"})
        return artifact

    def engine(artifact: Artifact, threads: int | None = None) -> GraphEngine:
        return GraphEngine(artifact, made[artifact.path])

    def no_runner() -> None:
        raise EngineError("no compiler")

    monkeypatch.setattr(workbench, "export", export)
    for module in (own_module, trainer_module):
        monkeypatch.setattr(module, "make_engine", engine)
    monkeypatch.setattr(workbench, "native_runner", no_runner)


def papers(folder: Path, model: Path, name: str, *more: object) -> tuple[object, ...]:
    common = ("bench", "papers", "--paper", name, "--data", folder, "--model", model)
    quick = ("--seeds", 0, "--epochs", 1, "--steps", 1, "--warmup", 0, "--batch", 4)
    place = ("--results", folder.parent / "papers.jsonl", "--work", folder.parent / "work")
    return (*common, *quick, *place, "--random-bert", "1x32", "--json", *more)


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.matrix) for name in PARTS],
)
def test_a_paper_is_measured_once(tiny: dict[str, Path], folder: Path, name: str) -> None:
    results = folder.parent / "papers.jsonl"
    call = papers(folder, tiny["bert-shallow"], name)
    measured = run(*call)
    assert measured.exit_code == 0, (measured.output, measured.exception)
    assert "not measured: no compiler" in measured.stderr
    rows = json.loads(measured.stdout)
    assert {row["paper"] for row in rows} == {name}
    written = results.read_bytes()
    records = [json.loads(line) for line in written.splitlines()]
    assert {record["setting"]["part"] for record in records} == PARTS[name]
    assert str(folder.parent) not in records[0]["command"]
    assert json.loads(good(*call)) == rows
    assert results.read_bytes() == written

    page = folder.parent / "B.md"
    good("bench", "report", results, "--out", page, "--plots", folder.parent / "plots")
    assert f"### {PAPERS[name].title}" in page.read_text()


@pytest.mark.matrix
@pytest.mark.parametrize("name", list(PARTS))
def test_a_paper_on_lowered_programs(tiny: dict[str, Path], folder: Path, name: str) -> None:
    good(*papers(folder, tiny["bert-shallow"], name))


def test_wrong_settings_are_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    for more, message in (
        (("--paper", "magic"), "--paper magic: not a paper; known: read, spartan, far"),
        (("--paper", ""), "not a paper; known: read"),
        (("--seeds", "one"), "expected whole numbers from 0"),
        (("--random-bert", "12"), "--random-bert 12: expected blocks x hidden size"),
        (("--random-bert", "2x100x3"), "such as 12x768"),
        (("--random-bert", "2x200"), "a multiple of 64"),
        (("--data", tmp_path), "needs train.jsonl"),
    ):
        assert message in refused(*papers(folder, Path("no"), "far", *more))


def test_products_of_blocks_by_hand() -> None:
    assert step_macs(DIMS, 5) == 4 * 3 * BLOCK
    assert step_macs(DIMS, 5, below=1) == 3 * 3 * BLOCK + BLOCK
    assert step_macs(DIMS, 5, below=1, cached=True) == 3 * 3 * BLOCK
    assert step_macs(DIMS, 5, ffn_trained=0.25) == 4 * (3 * BLOCK - 45)
    assert crossed_macs(DIMS, 5, 2) == 2 * (2 * WEIGHTS + 3 * SCORES)
    assert pass_macs(DIMS, [5] * 4, 5) == 4 * BLOCK
    assert pass_macs(Dims(2, 3, 2), [3, 2], 5) == (80 + 100 + 36) + (48 + 36 + 24)


def test_products_are_those_that_torch_counts() -> None:
    network = tiny_network("bert", 2, attn_implementation="eager")
    network.pooler = None
    with FlopCounterMode(display=False) as counted:
        network(torch.ones(1, 7, dtype=torch.long)).last_hidden_state.sum().backward()
    assert counted.get_total_flops() == 2 * step_macs(Dims(HIDDEN, WIDTH, 2), 7)
    side = DepthGRU(8, 4, 1.0, "mean")
    with FlopCounterMode(display=False) as counted:
        side([torch.ones(5, 8) for _ in range(3)]).sum().backward()
    assert counted.get_total_flops() == 2 * side_macs(Dims(8, 1, 3), 4, 5)


def test_bytes_are_counted_from_the_layout() -> None:
    numbers = 6 + 3 + 4
    assert moved_bytes(make_manifest()) == numbers * 4 * (2 * 2 + 2 * 2)


def test_time_is_that_of_products_and_bytes() -> None:
    rates = Rates(macs=100.0, moved=10.0)
    assert rates.seconds((Work(50.0, 5.0) + Work(50.0)) * 2) == 2 + 1


def test_what_a_step_of_far_may_save() -> None:
    arms = {
        "full": {"moved": 1000, "ffn_trained": 1.0},
        "FAR10": {"moved": 400, "ffn_trained": 0.25},
    }
    record = {"setting": SETTING, "dims": vars(DIMS), "seq": 5, "arms": arms}
    record |= {"rates": {"macs": 1000.0, "moved": 100.0}}
    assert allowed_ms(record, "FAR10") == pytest.approx(2 * 4 * 45 + 6000)


def test_a_phase_fills_its_cache_once() -> None:
    assert filling_updates(0, 30, 10) == 10
    assert filling_updates(4, 3, 10) == 3
    assert filling_updates(4, 11, 10) == 6 + 5 * 0.4
    assert filling_updates(4, 20, 10) == 10


@pytest.mark.parametrize(
    ("arm", "frozen"), [("AutoFreeze", 4 * 4 * 3 + 2 * 4), ("AutoFreeze without cache", 4 * 4 * 4)]
)
def test_the_freeze_log_bounds_the_speed_up(arm: str, frozen: int) -> None:
    phases = {f"cut{below}": {"below": below, "moved": 0} for below in (0, 1)}
    decisions = [{"update": 1, "phase": "cut0"}, {"update": 2, "phase": "cut1"}]
    run = {
        "setting": SETTING | {"arm": arm, "batch": 4},
        "epoch_s": [1.0] * 3,
        "trained": 8,
        "phases": phases,
        "decisions": decisions,
    }
    machine = {"dims": vars(Dims(2, 3, 2)), "rates": {"macs": 1.0, "moved": 1.0}, "tokens": 5}
    assert most_speedup(run, run, machine) == pytest.approx(6 * 4 * 6 / (2 * 4 * 6 + frozen))


def test_real_tokens_are_dropped_behind_padding() -> None:
    assert real_dropped([10, 4], [8, 2], seq=8) == pytest.approx(1 - 16 / 24)
    assert real_dropped([2, 3], [8, 4], seq=8) == 0
    dropped = {"keep75": 0.1, "keep50": 0.35, "keep35": 0.5}
    assert enough({"rungs": {r: {"real_dropped": d} for r, d in dropped.items()}}) == "keep50"
    assert enough({"rungs": {"keep75": {"real_dropped": 0.1}}}) is None


def test_a_lean_rung_just_drops_enough() -> None:
    lengths, seq, depth = [8, 12, 20, 50], 56, 6

    def dropped(share: float) -> float:
        return real_dropped(lengths, counts(falling(share, depth), seq), seq)

    share = lean_share(lengths, seq, depth)
    assert dropped(share) >= 0.3 > dropped(share + 0.01)


def run_record(arm: str, seed: int, epoch_s: float, accuracy: float) -> dict[str, Any]:
    setting = SETTING | {"part": "run", "arm": arm, "seed": seed}
    scores = {"accuracy": accuracy, "macro_f1": 0.0}
    return {"kind": "paper", "setting": setting, "epoch_s": [epoch_s] * 2, "scores": scores}


def test_the_page_says_what_is_reached_and_what_bounds_it(tmp_path: Path) -> None:
    ms = {"full": 100.0, "FAR10": 80.0, "FAR40": 90.0, "freeze-FFN": 70.0}
    shares = {"full": 1.0, "FAR10": 0.1, "FAR40": 0.4, "freeze-FFN": 0.0}
    step = {
        "kind": "paper",
        "setting": SETTING | {"part": "step"},
        "dims": vars(DIMS),
        "rates": {"macs": 1e6, "moved": 1e6},
        "seq": 5,
        "arms": {
            arm: {"moved": 40000 * (0.4 + 0.6 * share), "ffn_trained": share}
            for arm, share in shares.items()
        },
        "ms": {arm: {"median": value} for arm, value in ms.items()},
    }
    records = [
        step,
        run_record("full", 0, 4.0, 0.91),
        run_record("full", 1, 4.0, 0.93),
        run_record("FAR10", 0, 3.0, 0.90),
        run_record("FAR10", 0, 2.0, 0.91),
        run_record("FAR10", 1, 4.0, 0.90),
        {"kind": "paper", "setting": SETTING | {"part": "memory", "arm": "full"}, "peak": 5e7},
    ]
    results = tmp_path / "papers.jsonl"
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    out = ("--out", tmp_path / "B.md", "--plots", tmp_path / "plots")
    good("bench", "report", results, *out)
    page = (tmp_path / "B.md").read_text()
    assert (
        "### FAR (2205.01541)" in page and "tiny fp32, things (24 examples), B=2, 1 thread" in page
    )
    cells = {
        row[0]: row[1:]
        for line in page.splitlines()
        if line.startswith("| FAR") and (row := [c.strip() for c in line.strip("|").split("|")])
    }
    assert cells["FAR10: time of a step over full's"][1:3] == ["0.800", "no, 0.710"]
    assert cells["FAR10: bytes that gradients and optimizer move, over full's"][1:3] == [
        "0.460",
        "yes, 0.500",
    ]
    lost = cells["FAR10: points lost against full"]
    assert lost[1:6] == ["+1.50", "no, +1.10", "3.0 / 4.0", "- / 50.0 MB", "90.50 / 92.00"]
    assert "- FAR10: time of a step over full's: 0.800 instead of 0.710, 0.090 apart." in page
    saved = 40000 * 0.6 * 0.9 / 1e6 * 1e3 + 2 * 4 * 0.9 * 60 / 1e6 * 1e3
    assert f"saves {saved:.1f} of 100.0 ms" in page
    assert (tmp_path / "plots" / "far-step.png").exists()
    good("bench", "report", results, *out, "--check")
