"""Features of a batch, from the backbone program or the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, Engine
from effine.runtime.feature_cache import FeatureCache, sample_key
from effine.runtime.tokenize import Tokens, pad

MASK = "attention_mask"


class FeatureSource:
    """Computes features, or takes them from the cache.

    Where encoder layers lie below the cut, a sample's features are always computed
    alone and at the smallest shape that fits it, so that a cached and a recomputed
    run agree bit for bit. Otherwise (embedding sums) the whole batch is computed.

    Args:
        cache: None recomputes every time.
    """

    def __init__(self, artifact: Artifact, engine: Engine, cache: FeatureCache | None) -> None:
        self._manifest = artifact.manifest
        self._engine = engine
        self.cache = cache

    def batch(self, samples: Sequence[Tokens], batch: int, seq: int) -> Arrays:
        """Features and mask of a batch, padded to `batch` rows of `seq` tokens."""
        tokens = self._tokens(samples, batch, seq)
        if self._manifest.method_info.layers_below == 0:
            features = self._backbone(tokens, batch, seq)
        else:
            features = self._gathered([self._alone(sample) for sample in samples], batch, seq)
        return {**features, MASK: tokens[MASK]}

    def _alone(self, sample: Tokens) -> Arrays:
        seq = self._manifest.seq_for(len(sample.ids))
        tokens = self._tokens([sample], 1, seq)
        if self.cache is None:
            return self._backbone(tokens, 1, seq)
        key = sample_key(tokens)
        features = self.cache.get(key)
        if features is None:
            features = self._backbone(tokens, 1, seq)
            self.cache.put(key, seq, features)
        return features

    def _gathered(self, rows: Sequence[Arrays], batch: int, seq: int) -> Arrays:
        _, method = self._manifest.backbone_method(batch, seq)
        gathered = {}
        for spec in method.outputs:
            array = np.zeros(spec.shape, np.float32)
            for index, row in enumerate(rows):
                values = row[spec.name][0]
                array[index][tuple(slice(size) for size in values.shape)] = values
            gathered[spec.name] = array
        return gathered

    def _backbone(self, tokens: Arrays, batch: int, seq: int) -> Arrays:
        name, _ = self._manifest.backbone_method(batch, seq)
        return self._engine.run(name, tokens)

    def _tokens(self, samples: Sequence[Tokens], batch: int, seq: int) -> Arrays:
        info = self._manifest.tokens
        return pad(samples, batch, seq, info.pad_id, info.inputs)
