"""A data set in the form that programs take: tokens, labels and weights by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.data import Source, as_examples
from effine.runtime.errors import DataError
from effine.runtime.examples import Example, fingerprint
from effine.runtime.tasks import Samples, find_task
from effine.runtime.tokenize import Tokenizer


@dataclass(frozen=True)
class Dataset(Samples):
    """A tokenized data set.

    Args:
        seqs: the smallest exported sequence length that fits each sample.
        weights: [N] float32, the example weights.
        fingerprint: identifies the content and its order.
    """

    seqs: np.ndarray
    weights: np.ndarray
    fingerprint: str


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
    task = find_task(manifest.task.name)
    examples = as_examples(source, task.name, labelled=labelled)
    _check_pairs(examples, manifest.task.pair)
    samples = task.samples(
        examples,
        Tokenizer.from_file(artifact.tokenizer_path),
        manifest.tokens.max_length,
        labels if labelled else None,
        len(manifest.task.labels) + manifest.task.spare_labels,
    )
    weights = np.ones(len(samples), np.float32)
    if class_weights == "balanced":
        weights = task.balanced_weights(samples, len(labels))
    return Dataset(
        **vars(samples),
        seqs=np.array([manifest.seq_for(len(t.ids)) for t in samples.tokens]),
        weights=weights,
        fingerprint=fingerprint(examples),
    )


def _check_pairs(examples: Sequence[Example], pair: bool) -> None:
    given = examples[0].text_b is not None
    if given != pair:
        raise DataError(
            f"the artifact takes {'pairs (text and text_b)' if pair else 'single texts'}, "
            f"the data holds {'pairs' if given else 'single texts'}"
        )
