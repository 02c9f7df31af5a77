"""Parity with PyTorch for a part of the matrix, and proof that parity can fail.

Every method is lowered for XNNPACK on bert, and one on backbones and tasks whose graphs differ
most; test_covering.py has all methods, tasks and backbones in ONNX Runtime, `make matrix` all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from artifacts import PHASED, Exported
from effine.export.methods import known_methods
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays
from effine.runtime.engines.executorch import ExecuTorchEngine
from effine.runtime.parity import ParityReport, check_engine

COVERING = [
    *((method, "bert", "classification") for method in known_methods()),
    ("spartan", "distilbert", "classification"),
    ("lora", "modernbert", "classification"),
    ("read", "albert", "classification"),
    ("adapter", "t5", "classification"),
    ("lora", "bert", "pair"),
    ("head", "bert", "token-classification"),
    ("read", "bert", "question-answering"),
]
MORE = [
    ("adapter", "bert", "regression"),
    ("spartan", "bert", "multilabel"),
    ("adapter", "electra", "classification"),
    ("bitfit", "mpnet", "classification"),
    ("head", "xlm-roberta", "classification"),
    *(
        (name, "distilbert", "classification")
        for name in known_methods()
        if name not in ("spartan", *PHASED)
    ),
    *(("lora", "albert", "pair"), ("adapter", "roberta", "pair")),
    ("full", "roberta", "classification"),
]
QUANTISED = [("adapter", "bert", "int8"), ("spartan", "bert", "int8"), ("head", "bert", "int4")]
MORE_QUANTISED = [
    *((name, "bert", "int8") for name in ("bitfit", "head", "lora", "read")),
    *(("read", "bert", "int4"), ("adapter", "albert", "int8")),
]


def more(cases: list[tuple[str, str, str]]) -> list[Any]:
    """Cases for `make test-more`."""
    return [pytest.param(*case, marks=pytest.mark.matrix) for case in cases]


def failed(report: ParityReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


def test_the_golden_run_takes_its_examples_in_turns(artifact: Any) -> None:
    """Else rare labels decide at which end of the run the loss is higher."""
    golden = artifact("adapter").golden()
    steps = len(golden["loss"])
    seqs = [golden[f"batch.{step}.input_ids"].shape[1] for step in range(steps)]
    for seq in set(seqs):
        *_, third, second, first, last = (step for step in range(steps) if seqs[step] == seq)

        def texts(*chosen: int) -> list[tuple[int, ...]]:
            rows = (golden[f"batch.{step}.input_ids"] for step in chosen)
            return sorted(map(tuple, np.concatenate([*rows])))

        assert texts(third, second) == texts(first, last)
        assert not set(texts(first)) >= set(texts(last))


@pytest.mark.parametrize(
    ("method", "architecture", "task"),
    [*COVERING, *more(MORE)],
)
def test_the_programs_train_as_pytorch_does(
    artifact: Exported, method: str, architecture: str, task: str
) -> None:
    exported = artifact(method, architecture, task)
    report = check_engine(exported, ExecuTorchEngine(exported, threads=1))
    assert report.passed, [check for check in report.checks if not check.passed]
    assert report.manifest == exported.manifest.sha256
    phases = list(exported.manifest.phases)
    beyond = {f"{p}: {what}" for p in phases[1:] for what in ("features", "logits", "gradients")}
    beyond |= (
        {"statistics"} if any(e.role == "statistic" for e in exported.manifest.state) else set()
    )
    assert {check.name for check in report.checks} - beyond == {
        "features",
        "logits",
        "gradients",
        "loss",
        "change of all parameters",
        "change per tensor",
        "weight decay",
        "parameters changed",
        "loss fell",
        "resume is bit-exact",
    }
    assert beyond <= {check.name for check in report.checks}


@pytest.mark.parametrize(
    ("method", "architecture", "precision"), [*QUANTISED, *more(MORE_QUANTISED)]
)
def test_quantised_programs_train_as_the_emulation_does(
    artifact: Exported, method: str, architecture: str, precision: str
) -> None:
    exported = artifact(method, architecture, precision=precision)
    report = check_engine(exported, ExecuTorchEngine(exported, threads=1))
    assert report.passed, [check for check in report.checks if not check.passed]
    assert {"features against fp32", "logits against fp32"} < {c.name for c in report.checks}
    assert exported.manifest.backbone.precision == precision
    assert "rounding amplifies" in exported.manifest.tolerances.reason


class Mutant:
    """An engine that is wrong in one way; a subclass changes what training takes or returns."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest = artifact.manifest
        self.inner = ExecuTorchEngine(artifact, threads=1)
        self.updates = 0

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if not method.startswith("train_"):
            return self.inner.run(method, inputs)
        self.updates += 1
        taken = self.before(dict(inputs))
        return self.after(taken, self.inner.run(method, taken))

    def before(self, inputs: Arrays) -> Arrays:
        return inputs

    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs

    def decay(self, inputs: Arrays, ndim: int) -> Arrays:
        """What weight decay takes from the parameters of this many dimensions."""
        rates = {g: inputs.get(f"learning_rate.{g}", np.zeros(1)) for g in ("pieces", "head")}
        share = self.manifest.optimizer.weight_decay
        return {
            entry.name: (rates[entry.group] * share * inputs[entry.name]).astype(np.float32)
            for entry in self.manifest.parameters
            if len(entry.shape) == ndim
        }


class WrongSign(Mutant):
    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        mirrored = {e.name: 2 * inputs[e.name] - outputs[e.name] for e in self.manifest.parameters}
        return outputs | mirrored


class NoDecay(Mutant):
    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {
            name: outputs[name] + lost for name, lost in self.decay(inputs, 2).items()
        }


class DecayedBiases(Mutant):
    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        return outputs | {
            name: outputs[name] - lost for name, lost in self.decay(inputs, 1).items()
        }


class PerturbedTensor(Mutant):
    """One parameter is off by half of its norm after the first update."""

    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        if self.updates != 1:
            return outputs
        name = max(self.manifest.parameters, key=lambda entry: np.prod(entry.shape)).name
        noise = np.random.default_rng(0).normal(size=outputs[name].shape)
        noise *= 0.5 * np.linalg.norm(outputs[name]) / np.linalg.norm(noise)
        return outputs | {name: outputs[name] + noise.astype(np.float32)}


class SwappedMoments(Mutant):
    """A program whose two moments of one parameter are bound the wrong way round."""

    def before(self, inputs: Arrays) -> Arrays:
        first, second = (f"head.weight.{m}" for m in self.manifest.optimizer.moments)
        return inputs | {first: inputs[second], second: inputs[first]}


class SwappedParameters(Mutant):
    """Two pieces of the same shape are bound the wrong way round."""

    def before(self, inputs: Arrays) -> Arrays:
        first, second = same_shaped(self.manifest.parameters)
        return inputs | {first: inputs[second], second: inputs[first]}


class ForgetsStep(Mutant):
    """Bias correction that always takes the first step's factor."""

    def before(self, inputs: Arrays) -> Arrays:
        return inputs | {"step": np.ones(1, np.float32)}


class Drifting(Mutant):
    """An engine with a memory of its own: the same update differs between two runs."""

    def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
        drift = np.float32(self.updates * 1e-7)
        return outputs | {"head.bias": outputs["head.bias"] + drift}


def same_shaped(parameters: tuple) -> tuple[str, str]:
    pieces = [entry for entry in parameters if entry.group == "pieces" and len(entry.shape) == 2]
    return next(
        (a.name, b.name)
        for i, a in enumerate(pieces)
        for b in pieces[i + 1 :]
        if a.shape == b.shape
    )


MUTANTS = [
    (WrongSign, {"change of all parameters", "change per tensor"}),
    (NoDecay, {"weight decay"}),
    (DecayedBiases, {"weight decay"}),
    (PerturbedTensor, {"change per tensor"}),
    (SwappedMoments, {"change of all parameters", "change per tensor"}),
    (SwappedParameters, {"gradients", "loss"}),
    (ForgetsStep, {"change of all parameters"}),
    (Drifting, {"resume is bit-exact"}),
]


@pytest.mark.parametrize("method", ["adapter", "spartan"])
@pytest.mark.parametrize(("mutant", "caught"), MUTANTS, ids=[m.__name__ for m, _ in MUTANTS])
def test_a_wrong_engine_fails(
    artifact: Exported, mutant: type[Mutant], caught: set[str], method: str
) -> None:
    exported = artifact(method)
    report = check_engine(exported, mutant(exported))
    assert not report.passed
    assert caught <= failed(report), report.checks


def test_a_mutant_that_changes_nothing_passes(artifact: Exported) -> None:
    exported = artifact("adapter")
    assert check_engine(exported, Mutant(exported)).passed


def test_an_engine_that_does_nothing_fails(artifact: Exported) -> None:
    class Idle(Mutant):
        def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
            return outputs | {e.name: inputs[e.name] for e in self.manifest.state}

    exported = artifact("head")
    names = failed(check_engine(exported, Idle(exported)))
    assert {"gradients", "parameters changed", "change of all parameters"} <= names


def test_nan_fails(artifact: Exported) -> None:
    class Broken(Mutant):
        def after(self, inputs: Arrays, outputs: Arrays) -> Arrays:
            return outputs | {"loss": np.full(1, np.nan, np.float32)}

    exported = artifact("head")
    assert "loss" in failed(check_engine(exported, Broken(exported)))
