"""Data for an export: examples become tokens and targets, labels come from data or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effine.export import samples
from effine.export.backbones import Backbone
from effine.export.baseline import FOLDS, chosen_examples, frozen_head_score
from effine.export.errors import ExportError
from effine.export.tasks import Task, find_task
from effine.runtime.data import Source, as_examples, read_labels
from effine.runtime.examples import Example
from effine.runtime.labels import labels_of
from effine.runtime.manifest_fields import FrozenHead
from effine.runtime.tasks import Samples
from effine.runtime.tasks import Task as RuntimeTask
from effine.runtime.tasks import find_task as find_runtime_task
from effine.runtime.tokenize import Tokenizer, pad

_CALIBRATED = 3


@dataclass(frozen=True)
class Prepared:
    """Examples and labels in the form that the pipeline works on.

    Args:
        labels: in head order.
        rows: of the head, spare ones included.
        lengths: token counts that the program shapes follow; empty without real data.
        pair: whether each example has two texts.
    """

    task: RuntimeTask
    tokenizer: Tokenizer
    labels: list[str]
    rows: int
    examples: list[Example]
    lengths: list[int]
    pair: bool

    @property
    def outputs(self) -> int:
        """The rows of the head that aren't spare."""
        return self.task.outputs(self.labels)

    def samples(self, max_length: int, chosen: Sequence[int] | None = None) -> Samples:
        """All examples or some, tokenized, with what is to be learned.

        Args:
            chosen: positions in `examples`.
        """
        examples = self.examples if chosen is None else [self.examples[i] for i in chosen]
        return self.task.samples(examples, self.tokenizer, max_length, self.labels, self.rows)


def prepare(
    task: str, data: Source | None, labels: Path | None, spare_labels: int, backbone: Backbone
) -> Prepared:
    """Read and tokenize data.

    Without data, classification takes the sample intents. With only a file of labels, or
    for a task without labels, their sentences stand in for data in the golden run alone.

    Raises:
        DataError: the data can't be read.
        ExportError: there are too few labels, or no data where the task needs some.
    """
    exported, known = find_task(task), find_runtime_task(task)
    if labels is not None and not known.labelled:
        raise ExportError(f"--labels: --task {task} has no labels")
    if data is None and labels is None and known.labelled and not exported.has_samples:
        raise ExportError(f"--task {task}: has no sample data; give --data or --labels")
    stand_in = data is None and (labels is not None or not known.labelled)
    names = read_labels(labels) if labels else []
    if stand_in:
        texts = as_examples(samples.TRAIN, "classification", labelled=False)
        examples = exported.stand_ins(texts, names, np.random.default_rng(0))
    else:
        examples = as_examples(samples.TRAIN if data is None else data, task)
        names = names or labels_of(examples)
    if known.labelled and not names:
        raise ExportError("no example has a label; give data with some, or --labels")
    if known.labelled and len(names) + spare_labels < exported.fewest:
        raise ExportError(
            f"there is one label only ({names[0]}); give data with two, or --spare-labels"
        )
    made = Prepared(
        known,
        Tokenizer(backbone.tokenizer),
        names,
        len(names) + spare_labels,
        examples,
        [],
        examples[0].text_b is not None,
    )
    if stand_in:
        return made
    whole = known.samples(examples, made.tokenizer, backbone.max_length)
    return replace(made, lengths=[len(tokens.ids) for tokens in whole.tokens])


def measure_frozen_head(
    backbone: Backbone, task: Task, data: Prepared, max_length: int
) -> FrozenHead | None:
    """The score to beat with texts of at most `max_length` tokens; None without real data."""
    if not data.lengths or len(data.examples) < 2 * FOLDS:
        return None
    chosen = chosen_examples(backbone.encoder, len(data.examples), max_length)
    part = data.samples(max_length, chosen.tolist())
    score = frozen_head_score(backbone, task, data.task, part, data.labels)
    return FrozenHead(score, data.task.metrics[0], f"{FOLDS}-fold cross-validation at export")


def calibration_batches(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Sample sentences as token inputs [1, S]: the same for all artifacts of a backbone."""
    examples = as_examples(samples.TRAIN, "classification", labelled=False)[::_CALIBRATED]
    for tokens in Tokenizer(backbone.tokenizer).encode(examples, backbone.max_length):
        arrays = pad([tokens], 1, len(tokens.ids), backbone.pad_id, backbone.encoder.token_inputs)
        yield {name: torch.from_numpy(array) for name, array in arrays.items()}
