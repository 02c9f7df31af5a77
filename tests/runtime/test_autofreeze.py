"""AutoFreeze: the policy's arithmetic, and training beside a plain PyTorch loop."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts import intents
from commands import good
from eager import GraphEngine, Graphs, eager_artifact
from effine.export.backbones import load_backbone
from effine.export.capture import MASK
from effine.export.errors import ExportError
from effine.export.methods import make_method
from effine.export.model import Model, group_of
from effine.export.precision import choose_precision
from effine.export.tasks import make_task
from effine.runtime.artifact import Artifact
from effine.runtime.dataset import load_dataset
from effine.runtime.engines import Arrays
from effine.runtime.errors import StateError
from effine.runtime.feature_cache import cache_key
from effine.runtime.order import batches
from effine.runtime.parity import check_engine, compare
from effine.runtime.policies.autofreeze import AutoFreeze, magnitude, percentile, relative
from effine.runtime.replay import phase_turns, replay
from effine.runtime.report import Report
from effine.runtime.run import Progress
from effine.runtime.schedule import rate
from effine.runtime.tokenize import pad
from effine.runtime.trainer import Trainer
from networks import save_tiny

LAYERS = 3
OPTIONS = {"intervals": 9, "least_updates": 2}
RUN = {"epochs": 4, "piece_rate": 2e-3}
UPDATES = 24


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("three") / "tiny-bert"
    save_tiny("bert", path, LAYERS)
    return path


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Graphs]:
    out = tmp_path_factory.mktemp("eager") / "autofreeze.effine"
    return eager_artifact(model, out, method="autofreeze", options=OPTIONS)


@pytest.fixture
def engine(exported: tuple[Artifact, Graphs]) -> GraphEngine:
    return GraphEngine(*exported)


def trained(
    exported: tuple[Artifact, Graphs], cache: Path | bool = False, **run: Any
) -> tuple[Trainer, Report]:
    trainer = Trainer(exported[0], engine=GraphEngine(*exported), cache=cache)
    return trainer, trainer.fit(intents(), **(RUN | run))


@pytest.fixture(scope="session")
def run(exported: tuple[Artifact, Graphs]) -> tuple[Trainer, Report, list[tuple[str, Arrays]]]:
    """A run with the phase and the state after each update."""
    seen: list[tuple[str, Arrays]] = []
    trainer = Trainer(exported[0], engine=GraphEngine(*exported), cache=False)

    def keep(progress: Progress) -> None:
        if progress.metrics is None:
            seen.append((trainer._learner.phase, dict(trainer.state)))

    report = trainer.fit(intents(), callbacks=[keep], **RUN)
    return trainer, report, seen


def cuts(report: Report) -> list[int]:
    return [int(decision["phase"].removeprefix("cut")) for decision in report.decisions]


@pytest.mark.parametrize("share", [0.0, 25.0, 50.0, 73.0, 100.0])
def test_the_percentile_is_numpys(share: float) -> None:
    random = np.random.default_rng(0)
    for size in range(1, 9):
        values = random.exponential(size=size)
        assert percentile(values.tolist(), share) == pytest.approx(np.percentile(values, share))


def test_sums_are_in_binary64_and_in_order() -> None:
    values = np.random.default_rng(0).normal(size=(7, 31)).astype(np.float32)
    total = 0.0
    for value in values.reshape(-1).tolist():
        total += abs(value)
    assert magnitude(values) == total


def test_a_layer_without_gradients_has_settled() -> None:
    assert relative(0.0, 0.0) == 0.0 and relative(0.0, 1.0) == np.inf
    assert relative(2.0, 1.0) == relative(2.0, 3.0) == 0.5


def own_decision(
    before: Mapping[int, float], now: Mapping[int, float], start: int, ladder: list[int], share: int
) -> int:
    """Section 4 of the paper, written down once more."""
    eta = np.array([abs(before[layer] - now[layer]) / before[layer] for layer in sorted(now)])
    settled = start + int(np.argmax(eta >= np.percentile(eta, share)))
    return max(rung for rung in ladder if rung <= settled)


@pytest.mark.parametrize("share", [50, 80])
def test_decisions_are_those_of_another_implementation(engine: GraphEngine, share: int) -> None:
    policy = AutoFreeze(engine.manifest, 1000)
    policy._percentile = share
    random = np.random.default_rng(share)
    froze = 0
    for _ in range(10):
        phase, memory, before = "cut0", {}, {}
        for update in range(policy.interval, 500, policy.interval):
            start = int(phase.removeprefix("cut"))
            state = {
                entry.name: random.normal(size=entry.shape).astype(np.float32)
                * np.float32(random.exponential())
                for entry in engine.manifest.layout(phase)
                if entry.role == "statistic"
            }
            now: dict[int, float] = {}
            for name, array in state.items():
                layer = int(name.split(".")[2])
                now[layer] = now.get(layer, 0.0) + float(np.abs(array).sum(dtype=np.float64))
            decision = policy.decide(memory, update, phase, state)
            assert decision is not None
            if before:
                expected = own_decision(before, now, start, [0, 1, 2], share)
                assert decision.phase == f"cut{expected}" and expected >= start
                froze += expected > start
            else:
                assert decision.phase == phase
            phase, memory, before = decision.phase, dict(decision.memory), now
    assert froze > 5
    assert policy.decide({}, policy.interval + 1, "cut0", {}) is None
    assert policy.decide({}, 1000, "cut0", {}) is None


def test_every_phase_and_transition_is_in_the_golden_run(
    exported: tuple[Artifact, Graphs], engine: GraphEngine
) -> None:
    artifact, _ = exported
    turns = phase_turns(artifact.golden_with_metadata()[1])
    route = ["cut0", *(turns[step] for step in sorted(turns))]
    taken = [artifact.manifest.transition(*way) for way in itertools.pairwise(route)]
    assert all(way in taken for way in artifact.manifest.transitions)
    report = check_engine(artifact, engine)
    assert report.passed, [check for check in report.checks if not check.passed]
    names = {check.name for check in report.checks}
    assert {"statistics", "cut1: features", "cut1: logits", "cut2: gradients"} < names


class KeepsMoments(GraphEngine):
    """Feeds frozen layers' programs with a step count that goes on."""

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if method.startswith(("cut1_", "cut2_")):
            inputs = {**inputs, "step": inputs["step"] + 7}
        return super().run(method, inputs)


class ForgetsSums(GraphEngine):
    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        outputs = super().run(method, inputs)
        sums = [name for name in outputs if name.endswith(".drift")]
        return outputs | {name: outputs[name] - inputs[name] for name in sums}


class StaleLayers(GraphEngine):
    """The frozen layers are not those that were trained."""

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if ".backbone_" in method:
            start = self.golden
            inputs = {name: start.get(f"start.{name}", array) for name, array in inputs.items()}
        return super().run(method, inputs)

    golden: Arrays


@pytest.mark.parametrize(
    ("mutant", "fails"),
    [
        (KeepsMoments, "loss"),
        (ForgetsSums, "statistics"),
        (StaleLayers, "cut1: features"),
    ],
)
def test_parity_fails_when_a_phase_is_wrong(
    exported: tuple[Artifact, Graphs], mutant: type[GraphEngine], fails: str
) -> None:
    wrong = mutant(*exported)
    wrong.golden = exported[0].golden()
    report = check_engine(exported[0], wrong)
    assert fails in {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize(
    ("phase", "off", "passes"),
    [("", 5e-3, False), ("at.cut1.", 5e-3, True), ("at.cut1.", 0.05, False)],
)
def test_a_later_phase_may_part_as_far_as_the_parameters(
    exported: tuple[Artifact, Graphs], engine: GraphEngine, phase: str, off: float, passes: bool
) -> None:
    """AdamW makes whole steps of gradients that are mere rounding."""
    result = replay(exported[0], engine)
    for key in list(result):
        if key.startswith((f"{phase}features.", f"{phase}logits", f"{phase}gradient.")):
            result[key] = result[key] * np.float32(1 + off)
    report = compare(exported[0], result, "python")
    wrong = {check.name for check in report.checks if not check.passed}
    assert len(wrong) == (0 if passes else 3), wrong


def test_layers_freeze_from_below_and_are_bit_identical_at_the_end(run: Any) -> None:
    trainer, report, seen = run
    found = cuts(report)
    assert found == sorted(found) and found[0] == 0 and found[-1] > 0
    assert [d["update"] for d in report.decisions] == list(range(2, UPDATES, 2))
    assert all(d["reason"] for d in report.decisions) and "limit" in report.decisions[1]
    for cut in range(1, found[-1] + 1):
        first = next(state for phase, state in seen if int(phase[3:]) >= cut)
        frozen = [n for n in first if n.startswith((f"encoder.layers.{cut - 1}.", "encoder.embed"))]
        parameters = {entry.name for entry in trainer.artifact.manifest.parameters}
        assert set(frozen) <= parameters
        assert all(first[name].tobytes() == trainer.state[name].tobytes() for name in frozen)
    moved = trainer.artifact.initial_state()
    assert all((moved[e.name] != trainer.state[e.name]).any() for e in trainer._manifest.parameters)


def test_a_cut_on_its_features_is_the_whole_forward(
    exported: tuple[Artifact, Graphs], run: Any, engine: GraphEngine
) -> None:
    trainer = run[0]
    manifest = exported[0].manifest
    data = load_dataset(exported[0], intents(), trainer.labels)
    tokens = pad(data.tokens[:4], 4, 16, manifest.tokens.pad_id, manifest.tokens.inputs)
    state = {entry.name: trainer.state[entry.name] for entry in manifest.parameters}
    logits = {}
    for phase in manifest.phases:
        backbone, _ = manifest.backbone_method(4, 16, phase)
        predict, _ = manifest.predict_method(4, 16, phase)
        features = engine.run(backbone, tokens | state)
        logits[phase] = engine.run(predict, tokens | features | state)["logits"]
    assert len(logits) == LAYERS
    for found in logits.values():
        np.testing.assert_allclose(found, logits["cut0"], rtol=1e-5, atol=1e-6)


def test_statistics_and_decisions_are_those_of_a_plain_training_loop(
    exported: tuple[Artifact, Graphs], model: Path, run: Any
) -> None:
    """torch.autograd, torch.optim and no cut: whole forward passes of the same model."""
    artifact = exported[0]
    _, report, seen = run
    data = load_dataset(artifact, intents(), artifact.manifest.task.labels)
    plain = Model(
        load_backbone(str(model)).encoder, make_method("autofreeze"), make_task("classification", 3)
    )
    with torch.no_grad():
        for name, value in artifact.initial_state().items():
            if name in plain.learned():
                plain.learned()[name].copy_(torch.from_numpy(value))
    start, update, before = 0, 0, {}
    sums: dict[str, torch.Tensor] = {}
    optimizer = plain_optimizer(plain)
    peaks = {"pieces": RUN["piece_rate"], "head": artifact.manifest.recipe.head_rate}
    decisions = iter(report.decisions)
    for epoch in range(RUN["epochs"]):
        for indices in batches(data.seqs.tolist(), 4, 0, epoch):
            tokens = pad([data.tokens[i] for i in indices], 4, 16, 0, plain.encoder.token_inputs)
            inputs = {name: torch.from_numpy(array) for name, array in tokens.items()}
            mask = inputs[MASK]
            rows = plain.encoder.embed(inputs)
            rows = plain.encoder.run(rows, mask, 0, plain.encoder.stages)[-1]
            logits = plain.head(plain.encoder.pool(rows, mask))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels[indices]))
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                peak = peaks[group["group"]]
                group["lr"] = float(rate("linear", peak, update, UPDATES, 0.0))
            for name, parameter in plain.trainable().items():
                if name.startswith("encoder.layers."):
                    sums[name] = sums.get(name, 0) + parameter.grad.clone()
            optimizer.step()
            update += 1
            drifts = {n: a for n, a in seen[update - 1][1].items() if n.endswith(".drift")}
            if update % 2 or update == UPDATES:
                assert {f"{name}.drift" for name in sums} == set(drifts)
                for name, total in sums.items():
                    difference = np.linalg.norm(total.numpy() - drifts[f"{name}.drift"])
                    assert difference <= 2e-2 * max(total.norm(), 1e-4), (update, name)
                continue
            assert not any(drift.any() for drift in drifts.values())
            now: dict[int, float] = {}
            for name, total in sums.items():
                layer = int(name.split(".")[2])
                now[layer] = now.get(layer, 0.0) + float(total.abs().double().sum())
            decided = next(decisions)
            assert decided["changes"] == pytest.approx(list(now.values()), rel=1e-2)
            was, sums = start, {}
            start = own_decision(before, now, start, [0, 1, 2], 50) if before else start
            assert decided["phase"] == f"cut{start}"
            before = now
            if start > was:
                plain.enter(f"cut{start}")
                optimizer = plain_optimizer(plain)
    assert next(decisions, None) is None
    for name, parameter in plain.learned().items():
        end = seen[-1][1][name]
        np.testing.assert_allclose(end, parameter.detach().numpy(), rtol=1e-2, atol=1e-3)


def plain_optimizer(model: Model) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": [p], "group": group_of(n), "weight_decay": 0.01 if p.dim() > 1 else 0.0}
            for n, p in model.trainable().items()
        ]
    )


def first_freeze(report: Report) -> int:
    return next(d["update"] for d in report.decisions if d["phase"] != "cut0")


@pytest.mark.parametrize("where", ["before", "at", "behind"])
def test_a_run_resumes_across_a_freeze_bit_for_bit(
    exported: tuple[Artifact, Graphs], run: Any, tmp_path: Path, where: str
) -> None:
    whole, report, _ = run
    stop = first_freeze(report) + {"before": -1, "at": 0, "behind": 1}[where]
    path = tmp_path / "run.ckpt"
    interrupted = Trainer(exported[0], engine=GraphEngine(*exported), cache=False)

    def cancel(progress: Progress) -> None:
        if progress.update == stop:
            interrupted.cancel()

    interrupted.fit(intents(), callbacks=[cancel], checkpoint=path, **RUN)
    resumed = Trainer(exported[0], engine=GraphEngine(*exported), cache=False)
    saved = resumed.load(path)
    assert saved.update == stop and (saved.phase == "cut0") == (where == "before")
    again = resumed.resume(path, intents())
    assert again.decisions == report.decisions
    assert list(resumed.state) == list(whole.state)
    assert all(whole.state[n].tobytes() == a.tobytes() for n, a in resumed.state.items())
    assert [p.probabilities for p in resumed.predict(intents())] == [
        p.probabilities for p in whole.predict(intents())
    ]


def test_a_cache_of_frozen_layers_changes_time_and_nothing_else(
    exported: tuple[Artifact, Graphs], run: Any, tmp_path: Path
) -> None:
    cached, report = trained(exported, cache=tmp_path / "features")
    whole = run[0]
    assert report.decisions == run[1].decisions
    assert all(whole.state[n].tobytes() == a.tobytes() for n, a in cached.state.items())
    last = report.decisions[-1]["phase"]
    with_cache, without = (
        sum(call.startswith(f"{last}.backbone_") for call in trainer._learner.engine.calls)
        for trainer in (cached, whole)
    )
    assert 0 < with_cache <= len(intents()) < without
    assert "cache: fp32" in report.cache


def test_the_key_of_the_cache_has_the_frozen_weights_in_it(
    exported: tuple[Artifact, Graphs],
) -> None:
    weights = [{"w": np.zeros(3, np.float32)}, {"w": np.ones(3, np.float32)}]
    settings = itertools.product(("cut1", "cut2"), weights)
    assert len({cache_key(exported[0], "fp32", phase, held) for phase, held in settings}) == 4


def test_more_training_starts_with_all_layers(exported: tuple[Artifact, Graphs]) -> None:
    trainer, report = trained(exported)
    learned = {e.name: trainer.state[e.name] for e in exported[0].manifest.parameters}
    again = trainer.continue_with(intents(), epochs=1, piece_rate=0.0, head_rate=0.0)
    assert cuts(report)[-1] > 0
    assert all((trainer.state[name] == array).all() for name, array in learned.items())
    assert again.decisions[0]["phase"] == "cut0"


def test_a_state_that_is_not_of_its_phase_is_not_saved(
    exported: tuple[Artifact, Graphs], tmp_path: Path
) -> None:
    trainer = Trainer(exported[0], engine=GraphEngine(*exported), cache=False)
    trainer._learner.phase = "cut1"
    with pytest.raises(StateError, match="is unknown"):
        trainer.save(tmp_path / "a.ckpt")


def test_the_log_is_printed_and_drawn(
    exported: tuple[Artifact, Graphs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "train.csv"
    data.write_text("text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in intents()))
    made = Trainer(exported[0], engine=GraphEngine(*exported))
    monkeypatch.setattr("effine.runtime.trainer.Trainer", lambda *a, **k: made)
    options = ("--epochs", 4, "--piece-rate", 2e-3, "--out", tmp_path / "a.ckpt")
    command = ("train", exported[0].path, "--data", data, *options)
    shown = good(*command, "--plot", tmp_path / "curve.svg")
    assert "update 2: cut0, the first interval, nothing to compare with" in shown
    assert "freeze" in shown
    assert "<!-- cut" in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 101}, "percentile: must be between 0 and 100"),
        ({"intervals": 0}, "can't be less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        make_method("autofreeze", options)


@pytest.mark.parametrize("method", ["full", "autofreeze"])
def test_weights_that_train_are_not_quantised(model: Path, method: str) -> None:
    encoder = load_backbone(str(model)).encoder
    whole = Model(encoder, make_method(method), make_task("classification", 3))
    with pytest.raises(ExportError, match="trains every layer; use fp32, or freeze some"):
        choose_precision("int8", whole, [])
