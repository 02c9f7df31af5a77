"""Tokenized data in a file, for hosts that train but don't tokenize.

A safetensors file: the samples' token ids `ids` [T] int32 and `type_ids` [T] uint8 one after
another, sample i from `offsets`[i] to `offsets`[i + 1] ([N + 1] int64), `labels` [N] (class
positions as int64, scores as float32, or [N, C] float32 with a 1 for each label that applies;
tasks on tokens can't be written yet) and the example weights `weights` [N] float32.
Metadata: the `fingerprint` of the data, so that a checkpoint can be resumed from either side;
`tokenizer` (sha256) and `max_length`, to refuse another artifact's tokens; `labels` in head
order, `class_weights` and the number of `truncated` texts, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from effine.runtime.artifact import TOKENIZER, Artifact
from effine.runtime.codec import canonical
from effine.runtime.data import Source
from effine.runtime.dataset import load_dataset
from effine.runtime.errors import DataError
from effine.runtime.tasks import find_task
from effine.runtime.tensors import write_tensors

FORMAT = "effine tokens"
SCHEMA = 1


def write_tokens(
    path: Path | str,
    artifact: Artifact,
    data: Source,
    *,
    labels: Sequence[str] | None = None,
    class_weights: str | None = None,
) -> None:
    """Tokenize labelled data for an artifact and write them to a file.

    Args:
        data: a file, or examples in memory.
        labels: the labels in head order when some were added on the device.
        class_weights: `balanced` to weight examples against the label frequencies.

    Raises:
        DataError: the data can't be used with this artifact, or its task is one on tokens.
        StateError: the file can't be written.
    """
    manifest = artifact.manifest
    if find_task(manifest.task.name).per_token:
        raise DataError(
            f"{path}: task '{manifest.task.name}' learns from each token, which these files "
            "can't hold; train it with effine.runtime.Trainer"
        )
    names = list(manifest.task.labels if labels is None else labels)
    dataset = load_dataset(artifact, data, names, class_weights=class_weights)
    lengths = [len(tokens.ids) for tokens in dataset.tokens]
    write_tensors(
        path,
        {
            "offsets": np.cumsum([0, *lengths], dtype=np.int64),
            "ids": np.concatenate([tokens.ids for tokens in dataset.tokens]).astype(np.int32),
            "type_ids": np.concatenate([t.type_ids for t in dataset.tokens]).astype(np.uint8),
            "labels": dataset.labels,
            "weights": dataset.weights,
        },
        {
            "format": FORMAT,
            "schema": str(SCHEMA),
            "fingerprint": dataset.fingerprint,
            "tokenizer": manifest.files[TOKENIZER].sha256,
            "max_length": str(manifest.tokens.max_length),
            "labels": canonical(names),
            "class_weights": canonical(class_weights),
            "truncated": str(dataset.truncated),
        },
    )
