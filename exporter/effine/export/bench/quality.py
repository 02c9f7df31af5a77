"""`effine bench quality`: what training on the programs reaches, beside PyTorch eager.

Results are lines of JSON that are appended as runs finish; a finished run is skipped.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from effine.export.bench.eager import predict_eager, train_eager
from effine.export.bench.records import Record, append_record, load_average, read_records, stamped
from effine.export.bench.rivals.network import load_parameters, reference_model
from effine.export.bench.subsets import draw, hold_out, parts_of
from effine.export.bench.table import identity
from effine.export.errors import ExportError
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.data import as_examples
from effine.runtime.dataset import Dataset, load_dataset
from effine.runtime.examples import Example
from effine.runtime.predictions import Prediction
from effine.runtime.run import Settings
from effine.runtime.tasks import find_task
from effine.runtime.trainer import Trainer

SAME_SCORE = 0.01
MOST_HELD_OUT = 1000
FP32 = {"precision": "fp32"}


@dataclass(frozen=True)
class Study:
    """What to train on what.

    Args:
        folders: data sets, each a folder as `parts_of` takes it.
        train_size, per_class: the part of train to use, drawn by the run's seed.
        max_test: use only the first so many test examples.
        source: the backbone.
        backbone_precision: of the programs; eager stays fp32.
        work: where artifacts are kept and found again.
    """

    folders: tuple[Path, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    work: Path
    task: str = "classification"
    train_size: int | None = None
    per_class: int | None = None
    metric: str | None = None
    max_test: int | None = None
    epochs: int | None = None
    source: str = "minilm"
    backbone_precision: str = "fp32"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail, or mix up results, only after hours of training.

        Raises:
            ExportError: settings contradict each other, a name is unknown or data are missing.
        """
        names = find_task(self.task).metrics
        if self.metric not in (None, *names):
            raise ExportError(f"--metric {self.metric}: choose from {', '.join(names)}")
        if self.train_size and self.per_class:
            raise ExportError("--train-size and --per-class exclude each other")
        if self.per_class and find_task(self.task).target != "label":
            raise ExportError(f"--per-class: --task {self.task} has no class for each example")
        if len({folder.absolute().name for folder in self.folders}) < len(self.folders):
            raise ExportError("--data: results are kept by the folder's name; give each its own")
        for folder in self.folders:
            parts_of(folder)


@dataclass(frozen=True)
class Grid:
    """Learning rates and epochs to try, all combinations; the recipe is tried as well."""

    piece_rates: tuple[float, ...]
    head_rates: tuple[float, ...]
    epochs: tuple[int, ...]


def run_study(study: Study, results: Path, command: str, notice: Callable[[str], None]) -> None:
    """Train with every method, data set and seed; append to `results`.

    Eager, which is fp32 beside programs of any precision, isn't trained again if `results` has
    its score with the same settings.
    """
    found = {identity(record): record for record in read_records(results)}
    for folder, method in itertools.product(study.folders, study.methods):
        workplace = _Workplace(study, folder, method)
        for seed in study.seeds:
            key = workplace.key("run", seed) | {"epochs": study.epochs}
            if identity(key) not in found:
                started, load = time.perf_counter(), load_average()
                record = key | workplace.compare(seed, found.get(identity(key | FP32)))
                record |= {"seconds": time.perf_counter() - started}
                append_record(results, stamped("run", command, load, record))
                notice(f"{workplace.name} {method} seed {seed}: {record['effine']:.4f}")


def run_grid(
    study: Study, grid: Grid, results: Path, command: str, notice: Callable[[str], None]
) -> None:
    """Try the grid on a held-out fifth of train, at most 1,000; test is never read."""
    done = {identity(record) for record in read_records(results)}
    for folder, method in itertools.product(study.folders, study.methods):
        workplace = _Workplace(study, folder, method)
        for seed, settings in itertools.product(study.seeds, workplace.points(grid)):
            key = workplace.key("grid", seed) | settings
            if identity(key) not in done:
                load = load_average()
                score = workplace.held_out_score(seed, settings)
                append_record(results, stamped("grid", command, load, key | {"score": score}))
                notice(f"{workplace.name} {method} seed {seed} {settings}: {score:.4f}")


class _Workplace:
    """One data set and method: its artifact, made when first needed, and its Trainer."""

    def __init__(self, study: Study, folder: Path, method: str) -> None:
        self.study = study
        self.name = folder.absolute().name
        self.method = method
        self.metric = study.metric or find_task(study.task).metrics[0]
        self._task = find_task(study.task)
        self._train, self._test = parts_of(folder)
        self._examples: list[Example] | None = None
        self._trainer: Trainer | None = None

    def key(self, kind: str, seed: int) -> dict[str, Any]:
        study = self.study
        return {
            "kind": kind,
            "data": self.name,
            "task": study.task,
            "train_size": study.train_size,
            "per_class": study.per_class,
            "max_test": study.max_test if kind == "run" else None,
            "metric": self.metric,
            "model": Path(study.source).name,
            "precision": study.backbone_precision,
            "method": self.method,
            "seed": seed,
        }

    def points(self, grid: Grid) -> Iterator[dict[str, Any]]:
        """The recipe and the grid's points."""
        recipe = self.trainer.artifact.manifest.recipe
        names = ("piece_rate", "head_rate", "epochs")
        own = tuple(getattr(recipe, name) for name in names)
        tried = itertools.product(grid.piece_rates, grid.head_rates, grid.epochs)
        for point in dict.fromkeys([own, *tried]):
            yield dict(zip(names, point, strict=True))

    @property
    def trainer(self) -> Trainer:
        if self._trainer is None:
            self._trainer = Trainer(self._artifact(), threads=self.study.threads)
        return self._trainer

    @property
    def examples(self) -> list[Example]:
        if self._examples is None:
            self._examples = as_examples(self._train, self.study.task)
        return self._examples

    def part(self, examples: Sequence[Example], seed: int) -> list[Example]:
        return draw(examples, self.study.train_size, self.study.per_class, seed)

    def held_out_score(self, seed: int, settings: dict[str, Any]) -> float:
        rest, fifth = hold_out(self.examples, seed)
        train, dev = self.part(rest, seed), draw(fifth, MOST_HELD_OUT, None, seed)
        self.trainer.fit(train, seed=seed, **settings)
        return self.trainer.evaluate(dev)[self.metric]

    def compare(self, seed: int, fp32: Record | None) -> dict[str, Any]:
        """Train on the programs and in eager; scores, and the share of equal predictions.

        Args:
            fp32: the record of fp32 programs, whose eager score is taken if its settings agree.
        """
        torch.set_num_threads(self.study.threads or torch.get_num_threads())
        train = self.part(self.examples, seed)
        test = as_examples(self._test, self.study.task)[: self.study.max_test]
        self.trainer.fit(train, seed=seed, epochs=self.study.epochs)
        artifact = self.trainer.artifact
        settings = Settings.from_recipe(artifact.manifest, seed=seed, epochs=self.study.epochs)
        model, data = reference_model(artifact, self.study.source), self._dataset(test)
        labels = artifact.manifest.task.labels
        if fp32 and Settings(**fp32["settings"]) == settings:
            eager = fp32["eager"]
        else:
            train_eager(model, artifact, self._dataset(train), settings)
            outputs = predict_eager(model, artifact, data)
            eager = self._task.evaluate(outputs, data, labels)[self.metric]
        load_parameters(model, self.trainer.state)
        again = self._task.predictions(predict_eager(model, artifact, data), data, labels)
        return {
            "effine": self.trainer.evaluate(test)[self.metric],
            "eager": eager,
            "equal_predictions": _equal(self.trainer.predict(test), again),
            "settings": asdict(settings),
        }

    def _artifact(self) -> Artifact:
        study = self.study
        parts = (self.name, study.task, Path(study.source).name, self.method)
        out = study.work / f"{'-'.join((*parts, study.backbone_precision))}.effine"
        if out.exists():
            return Artifact.open(out)
        study.work.mkdir(parents=True, exist_ok=True)
        return export(
            study.source,
            method=self.method,
            task=study.task,
            data=self._train,
            backbone_precision=study.backbone_precision,
            out=out,
        )

    def _dataset(self, examples: Sequence[Example]) -> Dataset:
        artifact = self.trainer.artifact
        return load_dataset(artifact, examples, artifact.manifest.task.labels)


def _equal(own: Sequence[Prediction], eager: Sequence[Prediction]) -> float:
    """The share of equal choices, or of scores that differ by at most 0.01."""
    pairs = [
        pair
        for a, b in zip(own, eager, strict=True)
        for pair in zip(a.choices, b.choices, strict=True)
    ]
    return sum(_same(*pair) for pair in pairs) / len(pairs)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= SAME_SCORE
    return a == b
