"""Examples in the form that programs take: tokens, labels and weights by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.data import Example, Source, as_examples, fingerprint
from effine.runtime.errors import DataError
from effine.runtime.labels import balanced_weights, encode_label_sets, encode_labels
from effine.runtime.manifest import TaskInfo
from effine.runtime.tokenize import Tokenizer, Tokens


@dataclass(frozen=True)
class Dataset:
    """A tokenized data set.

    Args:
        tokens: token ids of each sample, without padding.
        seqs: the smallest exported sequence length that fits each sample.
        labels: [N] int64 or float32, or [N, C] float32 with a column for each row of the
            head; for unlabelled data, zeros [N].
        weights: [N] float32, the example weights.
        truncated: how many texts were cut to the longest exported length.
        fingerprint: identifies the content and its order.
    """

    tokens: Sequence[Tokens]
    seqs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    truncated: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.tokens)


def load_dataset(
    artifact: Artifact,
    source: Source,
    labels: Sequence[str],
    *,
    labelled: bool = True,
    class_weights: str | None = None,
) -> Dataset:
    """Read, check and tokenize data for an artifact.

    Args:
        labels: the labels in head order, those added on the device included.
        class_weights: `balanced` to weight examples against the label frequencies.

    Raises:
        DataError: the data can't be used with this artifact.
    """
    manifest = artifact.manifest
    task = manifest.task
    examples = as_examples(source, task.name, labelled=labelled)
    _check_pairs(examples, task.pair)
    tokenizer = Tokenizer.from_file(artifact.tokenizer_path)
    tokens = tokenizer.encode(examples, manifest.tokens.max_length)
    targets = _targets(examples, task, labels) if labelled else np.zeros(len(examples))
    weights = np.ones(len(examples), np.float32)
    if class_weights == "balanced":
        weights = balanced_weights(targets, len(labels))
    return Dataset(
        tokens,
        np.array([manifest.seq_for(len(t.ids)) for t in tokens]),
        targets,
        weights,
        tokenizer.truncated,
        fingerprint(examples),
    )


def _targets(examples: Sequence[Example], task: TaskInfo, labels: Sequence[str]) -> np.ndarray:
    if task.name == "regression":
        return np.array([example.score for example in examples], np.float32)
    if task.name == "multilabel":
        return encode_label_sets(examples, labels, len(task.labels) + task.spare_labels)
    return encode_labels(examples, labels)


def _check_pairs(examples: Sequence[Example], pair: bool) -> None:
    given = examples[0].text_b is not None
    if given != pair:
        raise DataError(
            f"the artifact takes {'pairs (text and text_b)' if pair else 'single texts'}, "
            f"the data holds {'pairs' if given else 'single texts'}"
        )
