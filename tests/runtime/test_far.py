"""FAR: regrouping keeps the function, learners are chosen by how far they moved, and a run ends
in the original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts import intents
from commands import refused
from eager import GraphEngine, Graphs, eager_artifact
from effine.export.backbones import encoder_from
from effine.export.capture import MASK
from effine.export.errors import ExportError
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.tasks import make_task
from effine.runtime.artifact import Artifact
from effine.runtime.parity import check_engine
from effine.runtime.policies.far import Far
from effine.runtime.report import Report
from effine.runtime.run import Progress
from effine.runtime.trainer import Trainer
from networks import WIDTH, tiny_network

Exported = tuple[Artifact, Graphs]
RUN = {"epochs": 3, "piece_rate": 2e-3}
PRIMING, UPDATES = 4, 18
RETENTION = 25
LEARNERS = WIDTH * RETENTION // 100


@pytest.fixture(scope="session")
def exported(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("far") / "far.effine"
    options = {"retention": RETENTION, "least_updates": PRIMING}
    return eager_artifact(tiny["bert"], out, method="far", options=options)


def trainer_of(exported: Exported) -> Trainer:
    return Trainer(exported[0], engine=GraphEngine(*exported))


@pytest.fixture(scope="session")
def run(exported: Exported) -> tuple[Trainer, Report, list[tuple[str, dict[str, np.ndarray]]]]:
    """A run with the phase and the state after each update."""
    trainer = trainer_of(exported)
    seen: list[Any] = []

    def keep(progress: Progress) -> None:
        if progress.metrics is None:
            seen.append((trainer._learner.phase, dict(trainer.state)))

    return trainer, trainer.fit(intents(), callbacks=[keep], **RUN), seen


def model_of(architecture: str, **options: Any) -> Model:
    encoder = encoder_from(tiny_network(architecture))
    encoder.pooling = "mean"
    return Model(encoder, make_method("far", options), make_task("classification", 3))


def logits_of(model: Model) -> torch.Tensor:
    torch.manual_seed(2)
    ids = torch.randint(5, model.encoder.embeddings.words.num_embeddings, (3, 9))
    tokens = {"input_ids": ids, "token_type_ids": ids * 0, MASK: torch.ones_like(ids)}
    chosen = {name: tokens[name] for name in model.encoder.token_inputs}
    return model(model.features(chosen), chosen[MASK])


@pytest.mark.parametrize("selection", ["learned", "none"])
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "albert"])
def test_regrouping_keeps_the_function(architecture: str, selection: str) -> None:
    model = model_of(architecture, retention=30, selection=selection)
    before = logits_of(model)
    weights = {name: p.detach().clone() for name, p in model.learned().items()}
    model.enter("far", model.method.any_rows(model.encoder))
    torch.testing.assert_close(logits_of(model), before, rtol=1e-5, atol=1e-6)
    kinds = {n.split(".")[4] for n in model.trainable() if ".feed_forward." in n} - {"down"}
    assert kinds == ({"learners"} if selection == "learned" else set())
    model.enter("prime")
    assert {n: p.shape for n, p in model.learned().items()} == {
        n: p.shape for n, p in weights.items()
    }
    assert all(torch.equal(p, weights[name]) for name, p in model.trainable().items())
    assert torch.equal(logits_of(model), before)


def test_the_golden_run_passes_both_ways(exported: Exported) -> None:
    report = check_engine(exported[0], GraphEngine(*exported))
    assert report.passed, [check for check in report.checks if not check.passed]
    names = {check.name for check in report.checks}
    assert {"statistics", "far: features", "far: logits", "far: gradients"} < names


def test_only_the_learners_have_moments(exported: Exported) -> None:
    sizes = {}
    for phase in ("prime", "far"):
        layout = exported[0].manifest.layout(phase)
        moments = [e for e in layout if e.role == "moment" and ".feed_forward." in e.name]
        sizes[phase] = sum(int(np.prod(e.shape)) for e in moments if ".down.bias." not in e.name)
    assert sizes["far"] == sizes["prime"] * LEARNERS // WIDTH


def test_learners_are_those_that_moved_most(exported: Exported, run: Any) -> None:
    _, report, seen = run
    (decision,) = report.decisions
    assert (decision["update"], decision["phase"]) == (PRIMING, "far")
    start, primed = exported[0].initial_state(), seen[PRIMING - 2][1]
    policy = Far(exported[0].manifest, UPDATES)
    for layer in (0, 1):
        place = f"encoder.layers.{layer}.feed_forward"
        change = {
            key: np.abs(primed[f"{place}.{key}"] - start[f"{place}.{key}"]).astype(np.float64)
            for key in ("up.weight", "up.bias", "down.weight")
        }
        expected = change["up.weight"].sum(1) + change["up.bias"] + change["down.weight"].sum(0)
        np.testing.assert_allclose(policy.scores(f"layers.{layer}", primed), expected, rtol=1e-3)
    choice = policy.decide({}, PRIMING, "prime", primed)
    assert choice is not None
    for layer in (0, 1):
        scores = policy.scores(f"layers.{layer}", primed)
        learners = choice.indices[f"layers.{layer}.learners"]
        others = choice.indices[f"layers.{layer}.others"]
        assert len(learners) == LEARNERS and sorted([*learners, *others]) == list(range(WIDTH))
        assert scores[learners].min() >= scores[others].max()
    assert policy.decide({}, PRIMING - 1, "prime", primed) is None
    assert policy.decide({}, PRIMING, "far", primed) is None


def test_equal_scores_favour_low_indices(exported: Exported) -> None:
    manifest = exported[0].manifest
    still = {e.name: np.zeros(e.shape, np.float32) for e in manifest.layout("prime")}
    choice = Far(manifest, UPDATES).decide({}, PRIMING, "prime", still)
    assert choice is not None
    assert choice.indices["layers.1.learners"].tolist() == list(range(LEARNERS))
    random = Far(manifest, UPDATES)
    random._random = True
    drawn = [random.decide({}, PRIMING, "prime", still) for _ in range(2)]
    rows = [made.indices["layers.1.learners"].tolist() for made in drawn if made is not None]
    assert rows[0] == rows[1] != list(range(LEARNERS))


def test_frozen_nodes_end_where_priming_left_them(exported: Exported, run: Any) -> None:
    trainer, _, seen = run
    assert [phase for phase, _ in seen] == ["prime"] * (PRIMING - 1) + ["far"] * (
        UPDATES - PRIMING + 1
    )
    assert trainer._learner.phase == "prime"
    assert list(trainer.state) == list(exported[0].initial_state())
    rows = trainer._run.policy["rows"]
    regrouped, last = seen[PRIMING - 1][1], seen[-1][1]
    for layer in (0, 1):
        place = f"encoder.layers.{layer}.feed_forward"
        for key, axis in (("up.weight", 0), ("up.bias", 0), ("down.weight", 1)):
            end = trainer.state[f"{place}.{key}"]
            others = np.take(end, rows[f"layers.{layer}.others"], axis)
            assert (others == regrouped[f"{place}.others.{key}"]).all()
            learners = np.take(end, rows[f"layers.{layer}.learners"], axis)
            assert (learners == last[f"{place}.learners.{key}"]).all()
            assert (learners != regrouped[f"{place}.learners.{key}"]).any()


@pytest.mark.parametrize("stop", [PRIMING - 1, PRIMING, PRIMING + 3])
def test_a_run_resumes_across_the_switch_bit_for_bit(
    exported: Exported, run: Any, tmp_path: Path, stop: int
) -> None:
    interrupted, path = trainer_of(exported), tmp_path / "run.ckpt"

    def cancel(progress: Progress) -> None:
        if progress.update == stop:
            interrupted.cancel()

    interrupted.fit(intents(), callbacks=[cancel], checkpoint=path, **RUN)
    resumed = trainer_of(exported)
    assert resumed.load(path).phase == ("prime" if stop < PRIMING else "far")
    resumed.predict(intents()[:2])
    assert resumed.resume(path, intents()).decisions == run[1].decisions
    assert all(run[0].state[n].tobytes() == a.tobytes() for n, a in resumed.state.items())


def test_the_best_parameters_change_their_layout_too(exported: Exported, tmp_path: Path) -> None:
    trainer = trainer_of(exported)
    report = trainer.fit(intents(), eval=intents(3), checkpoint=tmp_path / "a.ckpt", **RUN)
    assert trainer._learner.phase == "prime" and report.best_epoch
    found = trainer.evaluate(intents(3))["accuracy"]
    assert found == pytest.approx(report.metrics["accuracy"])
    again = trainer_of(exported)
    again.load(tmp_path / "a.ckpt")
    assert again.evaluate(intents(3))["accuracy"] == found


def test_an_interrupted_run_can_go_on_with_other_data(exported: Exported, tmp_path: Path) -> None:
    trainer, path = trainer_of(exported), tmp_path / "far.ckpt"

    def cancel(progress: Progress) -> None:
        if progress.update == PRIMING + 2:
            trainer.cancel()

    trainer.fit(intents(), callbacks=[cancel], checkpoint=path, **RUN)
    assert trainer._learner.phase == "far"
    message = refused("extract", path, "--artifact", exported[0].path, "--out", tmp_path / "out")
    assert "is in phase far" in message
    before = [p.label for p in trainer.predict(intents())]
    trainer.continue_with(intents(3), epochs=1, piece_rate=0.0, head_rate=0.0)
    assert trainer._learner.phase == "prime"
    assert [p.label for p in trainer.predict(intents())] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retention": 0}, "retention: must be between 0 and 100"),
        ({"retention": 100}, "retention: must be between 0 and 100"),
        ({"priming": 100}, "nothing would be primed"),
        ({"selection": "best"}, "choose from learned, random, none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        make_method("far", options)
