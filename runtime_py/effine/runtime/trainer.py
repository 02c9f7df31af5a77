"""Training, evaluation and prediction on an artifact: what a phone does, in Python."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.break_even import Passes
from effine.runtime.checkpoint import Checkpoint, resume_differences
from effine.runtime.data import Source
from effine.runtime.dataset import Dataset, load_dataset
from effine.runtime.engines import Arrays, Engine, make_engine
from effine.runtime.errors import CheckpointError
from effine.runtime.feature_cache import DEFAULT_BOUND
from effine.runtime.features import FeatureSource
from effine.runtime.learner import Learner
from effine.runtime.order import batches
from effine.runtime.phases import moved
from effine.runtime.policies import Policy, policy_for
from effine.runtime.predictions import Prediction
from effine.runtime.report import Epoch, Report, diagnose
from effine.runtime.run import Callback, Progress, Run, Settings
from effine.runtime.schedule import rate


class Trainer:
    """Trains an artifact and predicts with what it learned.

    Args:
        artifact: the artifact or its directory.
        engine: what executes the programs; by default that of the artifact's target.
        threads: that run an operator; by default the engine's own choice.
        cache: a file for the feature cache, kept between runs; True for a temporary
            one where it pays, False to recompute features every time.
        cache_bound: largest size of the cache in bytes.
        notify: is told before a run, in a line, what the cache will save.
    """

    def __init__(
        self,
        artifact: Artifact | str | Path,
        *,
        engine: Engine | None = None,
        threads: int | None = None,
        cache: Path | bool = True,
        cache_bound: int = DEFAULT_BOUND,
        notify: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.artifact = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
        self._manifest = self.artifact.manifest
        if engine is None:
            engine = make_engine(self.artifact, threads)
        features = FeatureSource(self.artifact, engine, cache, cache_bound)
        self._learner = Learner(self.artifact, engine, features)
        self._cancelled = threading.Event()
        self._notify = notify
        self._run = Run(Settings.from_recipe(self._manifest))

    @property
    def labels(self) -> list[str]:
        """The labels in head order, those added on the device last."""
        return self._learner.labels

    @property
    def state(self) -> Arrays:
        """The current parameters and moments by name, in manifest order."""
        return self._learner.state

    def fit(
        self,
        data: Source,
        *,
        eval: Source | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: Path | str | None = None,
        checkpoint_every: int = 50,
        **settings: Any,
    ) -> Report:
        """Train from the artifact's initial state; other arguments are those of `Settings`.

        Args:
            data: a file, or examples in memory.
            eval: data for the metric that early stopping and keep-best go by.
            checkpoint: a file that is rewritten every `checkpoint_every` updates, after
                each epoch, and on cancellation.

        Raises:
            DataError: the data can't be used.
        """
        self._learner.reset()
        return self._start(data, eval, settings, callbacks, checkpoint, checkpoint_every)

    def continue_with(
        self,
        data: Source,
        *,
        eval: Source | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: Path | str | None = None,
        checkpoint_every: int = 50,
        **settings: Any,
    ) -> Report:
        """Train from the learned parameters on other data, with a new schedule; see `fit`.

        A phase that was chosen for the last run is chosen again.
        """
        settings["phase"] = settings.get("phase") or self._run.settings.phase
        self._return()
        self._learner.restart()
        return self._start(data, eval, settings, callbacks, checkpoint, checkpoint_every)

    def resume(
        self,
        path: Path | str,
        data: Source,
        *,
        eval: Source | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint_every: int = 50,
        **settings: Any,
    ) -> Report:
        """Go on with an interrupted run, bit for bit as if it had not been interrupted.

        Settings that are not given are those of the checkpoint.

        Raises:
            IncompatibleCheckpoint: the checkpoint belongs to another artifact.
            CheckpointError: data or settings differ from those of the run.
        """
        saved = self.load(path)
        given = {name: value for name, value in settings.items() if value is not None}
        chosen = dataclasses.replace(self._run.settings, **given)
        chosen.check(self._manifest)
        train, dev = self._datasets(data, eval, chosen)
        differences = resume_differences(
            saved,
            settings=chosen.to_dict(),
            data_fingerprint=_fingerprint(train, dev),
            manifest_sha256=self._manifest.sha256,
        )
        if differences:
            raise CheckpointError(
                f"{path}: can't resume: {'; '.join(differences)}; use the same, or continue instead"
            )
        self._run.report.cancelled = False
        self._begin_cache(train, dev)
        return self._train(train, dev, callbacks, Path(path), checkpoint_every)

    def cancel(self) -> None:
        """Stop after the current update; may be called from a callback or another thread."""
        self._cancelled.set()

    def save(self, path: Path | str) -> None:
        """Write a checkpoint: everything needed to predict, to resume or to continue.

        Raises:
            StateError: the file can't be written; an older file there is intact.
        """
        learner = self._learner
        saved = Checkpoint.of_run(
            self._manifest, self._run, learner.state, learner.phase, self.labels
        )
        saved.save(Path(path))

    def load(self, path: Path | str) -> Checkpoint:
        """Take over a checkpoint's state, to predict with it or to continue from it.

        Raises:
            IncompatibleCheckpoint: it belongs to another artifact.
            CheckpointError: it is damaged.
        """
        saved = Checkpoint.load(Path(path), self._manifest)
        self._learner.take(saved.phase, dict(saved.state))
        self._learner.labels = list(saved.labels)
        self._run = saved.run()
        self._learner.features.use(self._run.settings.cache_precision)
        return saved

    def add_label(self, name: str) -> None:
        """Claim a spare row of the head for a new label; see `Learner.add_label`."""
        self._learner.add_label(name)

    def choose(self, phase: str) -> None:
        """Predict in another phase with the same parameters, such as one that keeps fewer tokens.

        Raises:
            ArtifactError: there is no such phase, or training alone can lead there.
        """
        self._learner.choose(phase)

    def evaluate(self, data: Source) -> dict[str, float]:
        """Metrics of the current parameters on labelled data."""
        dataset = load_dataset(self.artifact, data, self.labels)
        return self._learner.metrics(dataset, self._learner.logits(dataset))

    def predict(self, data: Source) -> list[Prediction]:
        """Predictions for texts, examples or a file, in order.

        For token-classification a text is split at whitespace, or given as a list of words; for
        question-answering each item is a mapping with `question` and `context`.
        """
        return self._learner.predictions(
            load_dataset(self.artifact, data, self.labels, labelled=False)
        )

    def _start(
        self,
        data: Source,
        eval: Source | None,
        settings: dict[str, Any],
        callbacks: Sequence[Callback],
        checkpoint: Path | str | None,
        every: int,
    ) -> Report:
        chosen = Settings.from_recipe(self._manifest, **settings)
        if chosen.phase is not None:
            self._learner.choose(chosen.phase)
        train, dev = self._datasets(data, eval, chosen)
        updates = chosen.epochs * len(self._order(train, chosen, 0))
        run = Run(chosen, _fingerprint(train, dev), updates, patience_left=chosen.patience)
        run.report.samples, run.report.truncated = len(train), train.truncated
        self._run = run
        self._begin_cache(train, dev)
        if dev is not None:
            run.report.before = self._learner.metrics(dev, self._learner.logits(dev))
        path = None if checkpoint is None else Path(checkpoint)
        return self._train(train, dev, callbacks, path, every)

    def _train(
        self,
        train: Dataset,
        dev: Dataset | None,
        callbacks: Sequence[Callback],
        checkpoint: Path | None,
        every: int,
    ) -> Report:
        self._cancelled.clear()
        run = self._run
        policy = policy_for(self._manifest, run.total)
        while run.epoch < run.settings.epochs and not run.exhausted:
            order = self._order(train, run.settings, run.epoch)
            while run.cursor < len(order) and not self._cancelled.is_set():
                for following in order[run.cursor + 1 : run.cursor + 2]:
                    self._learner.features.prefetch([train.tokens[i] for i in following])
                loss = self._update(train, order[run.cursor])
                run.cursor += 1
                if policy is not None:
                    self._consult(policy, train, dev)
                if checkpoint is not None and run.update % every == 0:
                    self.save(checkpoint)
                for callback in callbacks:
                    callback(Progress(run.update, run.total, run.epoch + 1, loss))
            if run.cursor < len(order):
                run.report.cancelled = True
                break
            self._end_epoch(dev)
            if checkpoint is not None:
                self.save(checkpoint)
            for callback in callbacks:
                done = run.report.epochs[-1]
                callback(Progress(run.update, run.total, done.epoch, done.loss, done.metrics))
        self._finish(dev)
        if checkpoint is not None:
            self.save(checkpoint)
        return run.report

    def _update(self, train: Dataset, indices: Sequence[int]) -> float | None:
        run, settings = self._run, self._run.settings
        peaks = {"pieces": settings.piece_rate, "head": settings.head_rate}
        rates = {
            group: rate(settings.schedule, peak, run.update, run.total, settings.warmup)
            for group, peak in peaks.items()
        }
        loss = self._learner.update(train, indices, rates, run.step + 1, settings.accumulate)
        run.update += 1
        if loss is None:
            run.report.discarded.append({"update": run.update, "samples": list(indices)})
            return None
        run.step += 1
        weight = float(train.weights[indices].sum())
        run.report.loss_sum += loss * weight
        run.report.weight_sum += weight
        return loss

    def _consult(self, policy: Policy, train: Dataset, dev: Dataset | None) -> None:
        """Follow the policy's decision, and log it; a new phase may cache features anew."""
        run, phase = self._run, self._learner.phase
        decision = policy.decide(run.policy, run.update, phase, self._learner.state)
        if decision is None:
            return
        self._enter(decision.phase, decision.indices)
        if decision.afresh:
            run.best, run.best_metric, run.report.best_epoch = None, None, 0
            run.patience_left = run.settings.patience
        run.policy = dict(decision.memory)
        run.report.decisions.append(
            {
                "update": run.update,
                "epoch": run.update * run.settings.epochs / run.total,
                "phase": decision.phase,
                "reason": decision.reason,
                **decision.found,
            }
        )
        if decision.phase != phase:
            self._begin_cache(train, dev)

    def _enter(self, phase: str, indices: Mapping[str, np.ndarray]) -> None:
        """Go to a phase; the best parameters so far take its layout as well."""
        run = self._run
        transition = self._learner.enter(phase, indices)
        if transition.restarts:
            run.step = 0
        if run.best is not None:
            run.best = moved(transition, self._manifest.parameters_in(phase), run.best, indices)

    def _return(self) -> None:
        """Give the parameters their original layout back."""
        policy = policy_for(self._manifest, self._run.total)
        indices = None if policy is None else policy.way_back(self._run.policy)
        if indices is not None and self._learner.phase != self._manifest.first_phase:
            self._enter(self._manifest.first_phase, indices)

    def _end_epoch(self, dev: Dataset | None) -> None:
        """Evaluate, and remember the best parameters."""
        run, report = self._run, self._run.report
        run.epoch += 1
        run.cursor = 0
        mean = report.loss_sum / report.weight_sum if report.weight_sum else None
        report.loss_sum = report.weight_sum = 0.0
        metrics = {} if dev is None else self._learner.metrics(dev, self._learner.logits(dev))
        report.epochs.append(Epoch(run.epoch, mean, metrics))
        if dev is None:
            return
        metric = metrics[self._manifest.task.metric]
        if run.best_metric is None or metric > run.best_metric:
            run.best_metric, run.patience_left = metric, run.settings.patience
            if run.settings.keep_best:
                run.best, report.best_epoch = self._learner.parameters(), run.epoch
        else:
            run.patience_left -= 1

    def _finish(self, dev: Dataset | None) -> None:
        run = self._run
        if run.report.cancelled:
            return
        if run.best is not None:
            self._learner.take(self._learner.phase, self._learner.state | run.best)
        self._return()
        run.report.uncached = self._learner.features.uncached
        initial = self.artifact.initial_state()
        params = self._learner.parameters()
        changed = any((initial[name] != array).any() for name, array in params.items())
        collapse = None if dev is None else self._learner.collapse(dev)
        run.report.warnings = diagnose(
            run.report,
            changed=changed,
            collapse=collapse,
            frozen_head=self._manifest.frozen_head,
        )

    def _datasets(
        self, data: Source, eval: Source | None, settings: Settings
    ) -> tuple[Dataset, Dataset | None]:
        train = load_dataset(self.artifact, data, self.labels, class_weights=settings.class_weights)
        dev = None if eval is None else load_dataset(self.artifact, eval, self.labels)
        return train, dev

    def _order(self, train: Dataset, settings: Settings, epoch: int) -> list[list[int]]:
        """The samples of each update of an epoch."""
        size = self._manifest.shapes.batch * settings.accumulate
        return batches(train.seqs.tolist(), size, settings.seed, epoch)

    def _begin_cache(self, train: Dataset, dev: Dataset | None) -> None:
        run = self._run
        epochs = run.settings.epochs - run.epoch
        passes = [Passes(train.tokens, epochs)]
        if dev is not None:
            passes.append(Passes(dev.tokens, epochs + 1))
        run.report.cache = self._learner.features.begin(run.settings.cache_precision, passes)
        self._notify(run.report.cache)


def _fingerprint(train: Dataset, dev: Dataset | None) -> str:
    parts = train.fingerprint + ("" if dev is None else dev.fingerprint)
    return hashlib.sha256(parts.encode()).hexdigest()
