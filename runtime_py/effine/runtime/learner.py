"""One state over one artifact: a single update, logits, and labels added on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.dataset import Dataset
from effine.runtime.engines import Arrays, Engine
from effine.runtime.errors import ArtifactError, DataError
from effine.runtime.features import FeatureSource
from effine.runtime.labels import batch_labels
from effine.runtime.phases import Transition, moved
from effine.runtime.predictions import Prediction
from effine.runtime.state import parameters_of, zero_gradients, zero_moments
from effine.runtime.tasks import find_task


class Learner:
    """Moves tensors between features, state and programs; knows no method.

    Args:
        artifact: a verified artifact.
        engine: what executes its programs.
        features: where features come from.
    """

    def __init__(self, artifact: Artifact, engine: Engine, features: FeatureSource) -> None:
        self.artifact = artifact
        self.manifest = artifact.manifest
        self.task = find_task(self.manifest.task.name)
        self.engine = engine
        self.features = features
        self.labels = list(self.manifest.task.labels)
        self.phase = self.manifest.first_phase
        self.state = artifact.initial_state()

    def take(self, phase: str, state: Arrays) -> None:
        """Go on from this state of this phase."""
        self.phase, self.state = phase, state
        self.features.enter(phase, state)

    def reset(self) -> None:
        """Go back to the initial state; labels added on the device stay."""
        self.take(self.manifest.first_phase, self.artifact.initial_state())
        for row in range(len(self.manifest.task.labels), len(self.labels)):
            self._switch_on(row)

    def restart(self) -> None:
        """Go back to the first phase and forget the moments, keep the parameters."""
        first = self.manifest.first_phase
        if self.phase != first:
            self.enter(first, {})
        self.take(first, zero_moments(self.manifest, self.state))

    def enter(self, phase: str, indices: Mapping[str, np.ndarray]) -> Transition:
        """Go to a phase, which may be the present one, with the indices of rows that it takes.

        Raises:
            ArtifactError: no transition leads there.
        """
        transition = self.manifest.transition(self.phase, phase)
        layout = self.manifest.layout(phase)
        self.take(phase, moved(transition, layout, self.state, indices))
        return transition

    def choose(self, phase: str) -> None:
        """Go to a phase by hand, where a way leads there that takes no decisions.

        Raises:
            ArtifactError: there is none, or no such phase.
        """
        known = list(self.manifest.phases)
        if phase not in known:
            raise ArtifactError(
                f"--phase {phase}: artifact {self.manifest.name!r} has "
                f"{'the phases ' + ', '.join(known) if known else 'no phases'}"
            )
        if phase == self.phase:
            return
        way = self.manifest.transition(self.phase, phase)
        if way.gather or way.scatter:
            raise ArtifactError(f"--phase {phase}: training alone finds out what it takes")
        self.enter(phase, {})

    def parameters(self) -> Arrays:
        """The trained parameters alone."""
        return parameters_of(self.manifest, self.state, self.phase)

    def update(
        self,
        data: Dataset,
        indices: Sequence[int],
        rates: Mapping[str, np.float32],
        step: int,
        accumulate: int = 1,
    ) -> float | None:
        """Train on one batch, or on the sum of the gradients of several.

        Args:
            indices: samples of at most `accumulate` batches.
            rates: the learning rate of each parameter group.
            step: updates since the moments were zero, this one included.

        Returns:
            The loss, or None if it or the new state isn't finite; the state is then
            the old one.
        """
        weights = _padded(data.weights[indices], accumulate * self.manifest.shapes.batch)
        scalars = {
            "weight_sum": np.array([weights.sum()], np.float32),
            "step": np.array([step], np.float32),
            **{f"learning_rate.{group}": np.array([r], np.float32) for group, r in rates.items()},
        }
        if accumulate == 1:
            seq, inputs = self._inputs(data, indices)
            name, _ = self.manifest.train_method(seq, self.phase)
            outputs = self.engine.run(name, inputs | scalars | self.state)
            loss = float(outputs["loss"][0])
        else:
            loss, outputs = self._accumulated(data, indices, scalars)
        state = {key: outputs.get(key, array) for key, array in self.state.items()}
        if not np.isfinite(loss) or not all(np.isfinite(a).all() for a in state.values()):
            return None
        self.state = state
        return loss

    def _accumulated(
        self, data: Dataset, indices: Sequence[int], scalars: Arrays
    ) -> tuple[float, Arrays]:
        """Sum up the batches' losses, in binary64, and gradients, then apply them."""
        batch = self.manifest.shapes.batch
        apply, signature = self.manifest.apply_method(self.phase)
        sums = zero_gradients(signature)
        loss = 0.0
        for start in range(0, len(indices), batch):
            seq, inputs = self._inputs(data, indices[start : start + batch])
            name, _ = self.manifest.accumulate_method(seq, self.phase)
            outputs = self.engine.run(name, inputs | scalars | self.state | sums)
            sums = {key: outputs[key] for key in sums}
            loss += float(outputs["loss"][0])
        return loss, self.engine.run(apply, scalars | self.state | sums)

    def _inputs(self, data: Dataset, indices: Sequence[int]) -> tuple[int, Arrays]:
        """The batch's exported length, features, mask, labels and example weights."""
        batch = self.manifest.shapes.batch
        seq = int(data.seqs[indices].max())
        return seq, {
            **self.features.batch([data.tokens[i] for i in indices], batch, seq),
            "labels": _padded(self._labels(data, indices, seq), batch),
            "example_weight": _padded(data.weights[indices], batch),
        }

    def _labels(self, data: Dataset, indices: Sequence[int], seq: int) -> np.ndarray:
        """The batch's labels; those of tokens are cut to the program's length."""
        _, method = self.manifest.train_method(seq)
        shape = next(spec.shape for spec in method.inputs if spec.role == "label")
        return batch_labels(data.labels, indices, shape[1:])

    def logits(self, data: Dataset) -> list[np.ndarray]:
        """Logits of each sample for the labels in use, computed in batches of similar length.

        Returns:
            [C] for each sample, or [L, C] where each of its L tokens has some.
        """
        batch = 1 if len(data) == 1 else self.manifest.shapes.batch
        order = np.argsort(data.seqs, kind="stable")
        rows: dict[int, np.ndarray] = {}
        for start in range(0, len(order), batch):
            indices = order[start : start + batch].tolist()
            seq = int(data.seqs[indices].max())
            name, _ = self.manifest.predict_method(batch, seq, self.phase)
            inputs = self.features.batch([data.tokens[i] for i in indices], batch, seq)
            logits = self.engine.run(name, {**inputs, **self.state})["logits"]
            rows.update(zip(indices, logits, strict=False))
        used = self.task.outputs(self.labels)
        cut = [rows[i][..., :used] for i in range(len(data))]
        if cut[0].ndim == 1:
            return cut
        return [row[: len(t.ids)] for row, t in zip(cut, data.tokens, strict=True)]

    def metrics(self, data: Dataset, logits: Sequence[np.ndarray]) -> dict[str, float]:
        """The task's metrics."""
        return self.task.evaluate(logits, data, self.labels)

    def predictions(self, data: Dataset) -> list[Prediction]:
        """A prediction for each example."""
        return list(self.task.predictions(self.logits(data), data, self.labels))

    def collapse(self, data: Dataset) -> str | None:
        """A warning if the same is predicted for all of the data."""
        return self.task.collapse(self.logits(data), data, self.labels)

    def add_label(self, name: str) -> None:
        """Claim a spare row of the head for a new label.

        Raises:
            DataError: the label exists, or no spare row is left.
        """
        task = self.manifest.task
        if name in self.labels:
            raise DataError(f"label '{name}' exists already")
        if len(self.labels) == len(task.labels) + task.spare_labels:
            raise DataError(
                f"no spare row left for label '{name}'; export again with --spare-labels"
            )
        self.labels.append(name)
        self._switch_on(len(self.labels) - 1)

    def _switch_on(self, row: int) -> None:
        bias = self.state["head.bias"].copy()
        bias[row] = 0.0
        self.state["head.bias"] = bias


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    padded = np.zeros((size, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    return padded
