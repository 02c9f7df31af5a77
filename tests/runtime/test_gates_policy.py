"""Token gates on the device: counts that are read off, rungs that follow or are chosen, and
programs that train as PyTorch does."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import BATCH, intents, slots
from commands import good, refused, write
from eager import GraphEngine, Graphs, eager_artifact
from effine.runtime.artifact import Artifact
from effine.runtime.errors import ArtifactError
from effine.runtime.parity import check_engine
from effine.runtime.policies.gates import Gates, counts, falling, needed, rungs
from effine.runtime.report import Report
from effine.runtime.run import Progress
from effine.runtime.tensors import read_tensors
from effine.runtime.trainer import Trainer

Exported = tuple[Artifact, Graphs]
RUN = {"epochs": 3, "piece_rate": 2e-3}
UPDATES, LEARNING = 18, 9
SEQ = 16
VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/gates.json").read_text())
LOW, HIGH = "encoder.gates.0.values", "encoder.gates.1.values"


@pytest.fixture(scope="session")
def exported(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """With a learning phase, and lengths of 8 and 16."""
    out = tmp_path_factory.mktemp("gates") / "gates.effine"
    options = {"pieces": "lora", "keep": "1.0,0.5"}
    return eager_artifact(tiny["bert"], out, method="gates", options=options, seq=f"8,{SEQ}")


@pytest.fixture(scope="session")
def ladder(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Two rungs and nothing to learn, with pieces above a cut."""
    out = tmp_path_factory.mktemp("ladder") / "ladder.effine"
    options = {"pieces": "adapter", "keep": "1.0,0.5", "learning": 0}
    return eager_artifact(tiny["bert"], out, method="gates", options=options, accumulate=2)


def trainer_of(exported: Exported) -> Trainer:
    return Trainer(exported[0], engine=GraphEngine(*exported))


def gates(*values: float) -> np.ndarray:
    """The first are given, the others closed."""
    return np.array([*values, *[0.0] * (64 - len(values))], np.float32)


@pytest.fixture(scope="session")
def run(exported: Exported) -> tuple[Trainer, Report, list[str]]:
    trainer = trainer_of(exported)
    phases: list[str] = []

    def keep(progress: Progress) -> None:
        if progress.metrics is None:
            phases.append(trainer._learner.phase)

    return trainer, trainer.fit(intents(), callbacks=[keep], **RUN), phases


@pytest.mark.parametrize("made", ["exported", "ladder"])
def test_the_golden_run_passes_in_all_phases(made: str, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(made)
    report = check_engine(exported[0], GraphEngine(*exported))
    assert report.passed, [check for check in report.checks if not check.passed]
    phases = list(exported[0].manifest.phases)
    assert phases == (["gates"] if made == "exported" else []) + ["keep100", "keep50"]
    names = {check.name for check in report.checks}
    assert {f"{phase}: gradients" for phase in phases[1:]} < names
    assert ("accumulated: loss" in names) == (made == "ladder")


def test_a_single_rung_is_a_plain_artifact(tiny: dict[str, Path], tmp_path: Path) -> None:
    options = {"pieces": "adapter", "keep": "0.5", "learning": 0}
    made = eager_artifact(tiny["bert"], tmp_path / "a.effine", method="gates", options=options)
    manifest = made[0].manifest
    assert manifest.schema == 1 and not manifest.phases and not manifest.transitions
    assert check_engine(made[0], GraphEngine(*made)).passed
    trainer = trainer_of(made)
    report = trainer.fit(intents(), eval=intents(3), epochs=2)
    assert report.epochs[-1].loss < report.epochs[0].loss and not report.decisions


def test_programs_compute_fewer_tokens(exported: Exported) -> None:
    _, graphs = exported
    rows = {}
    for phase in ("keep100", "keep50"):
        nodes = graphs[f"{phase}_b{BATCH}_s{SEQ}"].graph.graph.nodes
        shapes = [tuple(n.meta["val"].shape) for n in nodes if hasattr(n.meta.get("val"), "shape")]
        rows[phase] = {s[0] for s in shapes if len(s) == 2 and s[1] == 64 and s[0] > 32}
    assert rows["keep100"] == {BATCH * SEQ}
    low, high = (BATCH * count for count in counts(rungs("0.5", 2)["keep50"], SEQ))
    assert {low} <= rows["keep50"] <= {low, high} and high < low < BATCH * SEQ


def test_counts_are_read_off_in_the_middle_of_the_run(exported: Exported, run: Any) -> None:
    trainer, report, phases = run
    (decision,) = report.decisions
    assert decision["update"] == LEARNING and len(decision["counts"]) == 2
    assert phases == ["gates"] * (LEARNING - 1) + [decision["phase"]] * (UPDATES - LEARNING + 1)
    assert f"keep={decision['keep']}" in decision["reason"]
    values = [trainer.state[name] for name in (LOW, HIGH)]
    assert all(((v >= 0) & (v <= 1)).all() and len(set(v[:8])) > 1 for v in values)
    assert f"{HIGH}.exp_avg" not in trainer.state
    assert len(trainer.predict(intents()[:3])) == 3
    assert trainer._learner.engine.calls[-1].startswith(f"{decision['phase']}.predict_")


@pytest.mark.parametrize(
    ("low", "high", "learned", "phase"),
    [
        (gates(*[1.0] * 9), gates(*[1.0] * 5), [9, 5], "keep50"),
        (gates(*[1.0] * 12), gates(*[1.0] * 14), [12, 12], "keep100"),
        (gates(), gates(), [1, 1], "keep50"),
        (gates(*[0.75] * 10), gates(1.0), [7, 1], "keep50"),
        (np.ones(64, np.float32), np.ones(64, np.float32), [16, 16], "keep100"),
    ],
)
def test_hand_made_gates(
    exported: Exported, low: np.ndarray, high: np.ndarray, learned: list[int], phase: str
) -> None:
    policy = Gates(exported[0].manifest, UPDATES)
    state = {LOW: low, HIGH: high}
    decision = policy.decide({}, LEARNING, "gates", state)
    assert decision is not None and decision.afresh
    assert decision.found["counts"] == learned and decision.phase == phase
    again = next(iter(rungs(decision.found["keep"], 2).values()))
    assert counts(again, SEQ) == [max(2, n) for n in learned]
    assert policy.decide({}, LEARNING - 1, "gates", state) is None
    assert policy.decide({}, LEARNING, "keep100", state) is None
    short = Gates(exported[0].manifest, 1).decide({}, 1, "gates", state)
    assert short is not None and short.phase == "gates" and "export them with" in short.reason


def test_counts_agree_with_the_vectors() -> None:
    for case in VECTORS["counts"]:
        (shares,) = rungs(case["rung"], case["layers"]).values()
        assert counts(shares, case["seq"]) == case["counts"]
    for case in VECTORS["needed"]:
        assert needed(np.array(case["gates"], np.float32)) == case["count"]


def test_undecided_gates_count_by_their_sum() -> None:
    assert needed(np.array([1, 1, 0.95, 0, 0.05], np.float32)) == 3
    assert needed(np.array([1, 0.6, 0.6, 0.6, 0], np.float32)) == 2
    assert needed(np.zeros(5, np.float32)) == 0


def test_shares_fall_by_a_factor_and_have_the_mean() -> None:
    for mean in (0.05, 0.35, 0.75, 1.0):
        shares = falling(mean, 6)
        assert sum(shares) / 6 == pytest.approx(mean)
        ratios = {round(b / a, 9) for a, b in itertools.pairwise(shares)}
        assert len(ratios) == 1
    assert rungs("1.0,0.75,0.5,0.35", 6).keys() == {"keep100", "keep75", "keep50", "keep35"}
    assert counts((1.0, 0.5, 0.01), 24) == [24, 12, 2]


def test_the_best_of_the_gates_is_not_kept_for_a_rung(exported: Exported) -> None:
    trainer = trainer_of(exported)
    report = trainer.fit(intents(), eval=intents(3), **(RUN | {"epochs": 4}))
    assert report.best_epoch > report.decisions[0]["epoch"]
    assert trainer.evaluate(intents(3))["accuracy"] == pytest.approx(report.metrics["accuracy"])


def test_a_run_resumes_across_the_switch_bit_for_bit(
    exported: Exported, run: Any, tmp_path: Path
) -> None:
    path = tmp_path / "run.ckpt"
    for stop in (LEARNING - 1, LEARNING + 2):
        interrupted = trainer_of(exported)

        def cancel(progress: Progress, trainer: Trainer = interrupted, stop: int = stop) -> None:
            if progress.update == stop:
                trainer.cancel()

        interrupted.fit(intents(), callbacks=[cancel], checkpoint=path, **RUN)
        resumed = trainer_of(exported)
        assert resumed.resume(path, intents()).decisions == run[1].decisions
        assert all(run[0].state[n].tobytes() == a.tobytes() for n, a in resumed.state.items())


def test_going_on_learns_gates_again(exported: Exported, run: Any, tmp_path: Path) -> None:
    run[0].save(tmp_path / "run.ckpt")
    trainer = trainer_of(exported)
    trainer.load(tmp_path / "run.ckpt")
    report = trainer.continue_with(intents(3), **RUN)
    assert [made["update"] for made in report.decisions] == [LEARNING]


def test_gates_are_extracted_with_their_pieces(
    exported: Exported, run: Any, tiny: dict[str, Path], tmp_path: Path
) -> None:
    run[0].save(tmp_path / "run.ckpt")
    command = ("extract", tmp_path / "run.ckpt", "--artifact", exported[0].path)
    good(*command, "--out", tmp_path / "out", "--model", tiny["bert"])
    written = read_tensors(tmp_path / "out" / "pieces.safetensors")[0]
    assert (written[LOW] == run[0].state[LOW]).all()
    assert any(name.endswith("lora_A") for name in written)


def test_users_choose_the_rung(ladder: Exported, tmp_path: Path) -> None:
    trainer = trainer_of(ladder)
    trainer.fit(intents(), epochs=1, phase="keep50")
    calls = trainer._learner.engine.calls
    assert {c.partition("_")[0] for c in calls} == {"backbone", "keep50.accumulate", "keep50.apply"}
    trainer.save(tmp_path / "a.ckpt")
    again = trainer_of(ladder)
    again.load(tmp_path / "a.ckpt")
    again.continue_with(intents(3), epochs=1)
    assert again._learner.phase == "keep50" and not any("keep100" in c for c in calls)
    again.choose("keep100")
    again.predict(["the lamp"])
    assert again._learner.engine.calls[-1].startswith("predict_b1_")
    again.fit(intents(), epochs=1)
    assert again._learner.phase == "keep100"


def test_phases_that_can_not_be_chosen(exported: Exported, ladder: Exported) -> None:
    with pytest.raises(ArtifactError, match=r"--phase keep75: .* has the phases keep100, keep50"):
        trainer_of(ladder).fit(intents(), epochs=1, phase="keep75")
    trainer = trainer_of(exported)
    trainer.fit(intents(), epochs=1, phase="keep50")
    assert trainer._learner.phase == "keep50" and not trainer._run.report.decisions


def test_tasks_on_tokens_are_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    data = write(tmp_path / "slots.jsonl", slots())
    command = ("export", "--model", tiny["bert"], "--method", "gates", "--data", data)
    message = refused(*command, "--task", "token-classification", "--out", tmp_path / "a.effine")
    assert message == "--method gates: drops tokens, but the task needs all of them"
    assert not (tmp_path / "a.effine").exists()


def test_the_method_says_what_is_reconstructed() -> None:
    shown = good("methods", "gates")
    assert "confirmed by the paper" in shown and "Reconstructed" in shown and "keep = " in shown
