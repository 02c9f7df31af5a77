"""Data for an export: examples become tokens and targets, labels come from data or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effine.export import samples
from effine.export.backbones import Backbone
from effine.export.baseline import FOLDS, frozen_head_score
from effine.export.errors import ExportError
from effine.export.tasks import Task
from effine.runtime.data import Example, Source, as_examples, read_labels
from effine.runtime.labels import encode_label_sets, encode_labels, labels_of
from effine.runtime.manifest import FrozenHead
from effine.runtime.metrics import main_metric
from effine.runtime.tokenize import Tokenizer, Tokens, pad

_CALIBRATED = 3


@dataclass(frozen=True)
class Prepared:
    """Examples and labels in the form that the pipeline works on.

    Args:
        lengths: token counts that the program shapes follow; empty without real data.
        pair: whether each example has two texts.
    """

    labels: list[str]
    tokens: list[Tokens]
    targets: np.ndarray
    lengths: list[int]
    pair: bool


def prepare(
    task: str, data: Source | None, labels: Path | None, spare_labels: int, backbone: Backbone
) -> Prepared:
    """Read and tokenize data.

    Without data the sample intents are used. With only a file of labels, or for a
    regression, their sentences stand in for data in the golden run alone.

    Raises:
        DataError: the data can't be read.
        ExportError: there are too few labels, or no data where the task needs some.
    """
    classes = task != "regression"
    if task == "multilabel" and data is None and labels is None:
        raise ExportError("--task multilabel: has no sample data; give --data or --labels")
    stand_in = data is None and (labels is not None or not classes)
    if stand_in:
        examples = as_examples(samples.TRAIN, "classification", labelled=False)
        names = read_labels(labels) if labels else []
        targets = _stand_in_targets(task, len(examples), names)
    else:
        examples = as_examples(samples.TRAIN if data is None else data, task)
        names = (read_labels(labels) if labels else labels_of(examples)) if classes else []
        targets = _targets(examples, task, names)
    if task == "multilabel":
        if not names:
            raise ExportError("no example has a label; give data with some, or --labels")
        targets = np.pad(targets, ((0, 0), (0, spare_labels)))
    elif classes and len(names) + spare_labels < 2:
        raise ExportError(
            f"there is one label only ({names[0]}); give data with two, or --spare-labels"
        )
    tokens = Tokenizer(backbone.tokenizer).encode(examples, backbone.max_length)
    lengths = [] if stand_in else [len(t.ids) for t in tokens]
    return Prepared(names, tokens, targets, lengths, examples[0].text_b is not None)


def measure_frozen_head(backbone: Backbone, task: Task, data: Prepared) -> FrozenHead | None:
    """The score to beat, or None without enough real data."""
    if len(data.lengths) < 2 * FOLDS:
        return None
    score = frozen_head_score(backbone.encoder, task, data.tokens, data.targets, backbone.pad_id)
    return FrozenHead(score, main_metric(task.name), f"{FOLDS}-fold cross-validation at export")


def calibration_batches(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Sample sentences as token inputs [1, S]: the same for all artifacts of a backbone."""
    examples = as_examples(samples.TRAIN, "classification", labelled=False)[::_CALIBRATED]
    for tokens in Tokenizer(backbone.tokenizer).encode(examples, backbone.max_length):
        arrays = pad([tokens], 1, len(tokens.ids), backbone.pad_id, backbone.encoder.token_inputs)
        yield {name: torch.from_numpy(array) for name, array in arrays.items()}


def _targets(examples: Sequence[Example], task: str, labels: Sequence[str]) -> np.ndarray:
    if task == "regression":
        return np.array([example.score for example in examples], np.float32)
    return (encode_label_sets if task == "multilabel" else encode_labels)(examples, labels)


def _stand_in_targets(task: str, count: int, labels: Sequence[str]) -> np.ndarray:
    """Skewed labels, or scores around 3, which a model can fit within the golden run."""
    random = np.random.default_rng(0)
    if not labels:
        return random.normal(3.0, 0.5, count).astype(np.float32)
    if task == "multilabel":
        return (random.random((count, len(labels))) < 0.2).astype(np.float32)
    return np.where(random.random(count) < 0.7, 0, random.integers(0, len(labels), count))
