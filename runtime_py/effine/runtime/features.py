"""Features of a batch, from the backbone program or the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.break_even import Passes, Sample, Speed, estimate, megabytes
from effine.runtime.engines import Arrays, Engine
from effine.runtime.feature_cache import DEFAULT_BOUND, FeatureCache, sample_key
from effine.runtime.packing import Packing
from effine.runtime.tokenize import Tokens, pad

MASK = "attention_mask"
_PROBES = 4


class FeatureSource:
    """Computes features, or takes them from the cache.

    Where encoder layers lie below the cut, a sample's features are always computed
    alone, at the smallest shape that fits it, and used as the cache would store them, so
    that a cached and a recomputed run agree bit for bit. Otherwise (embedding sums) the
    whole batch is computed and nothing is cached.

    Args:
        cache: a file that is kept and always used; True for a temporary one in runs where
            it pays; False recomputes every time.
        bound: largest size of the cache in bytes.
    """

    def __init__(
        self,
        artifact: Artifact,
        engine: Engine,
        cache: Path | bool = True,
        bound: int = DEFAULT_BOUND,
    ) -> None:
        self.cache: FeatureCache | None = None
        self._artifact = artifact
        self._manifest = artifact.manifest
        self._engine = engine
        self._place = cache
        self._bound = bound
        self._packing = Packing(self._manifest)
        self._phase = self._manifest.first_phase
        self._held: Arrays = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def enter(self, phase: str, state: Arrays) -> None:
        """Compute the features of a phase, with what its backbone reads of the state."""
        held = {}
        if self._manifest.has_backbone:
            method = self._manifest.backbone_method(1, self._manifest.shapes.seqs[0], phase)[1]
            held = {s.name: state[s.name] for s in method.inputs if s.role == "read"}
        if phase != self._phase or any(held[n] is not self._held.get(n) for n in held):
            self._close()
        self._phase, self._held = phase, held

    def use(self, precision: str) -> None:
        """Round features as a cache of this precision does.

        Raises:
            StateError: the precision is unknown.
        """
        if precision != self._packing.precision:
            self._packing = Packing(self._manifest, precision)
            self._close()

    def begin(self, precision: str, passes: Sequence[Passes]) -> str:
        """Decide on the cache for a run, which can't change its result.

        Args:
            passes: the training data, going through which is an epoch, then any others.

        Returns:
            The decision and the estimate behind it, as a line for people.

        Raises:
            StateError: the precision is unknown, or the cache file can't be opened.
        """
        self.use(precision)
        if not self._deep:
            return "cache: none, no encoder layer lies below the cut"
        if self._place is False:
            return "cache: none, it is switched off"
        if self._place is True and all(data.count <= 1 for data in passes):
            return "cache: none, features are needed only once"
        self.cache = self.cache or self._open()
        samples = [self._sample(self.cache, t, data.count) for data in passes for t in data.samples]
        missing = [sample for sample in samples if not sample.stored]
        if not missing:
            size = megabytes(self.cache.size)
            return f"cache: {precision}, {size}, holds all {len(samples):,} samples"
        alike = [sample for sample in missing if sample.padded == missing[0].padded]
        speed = self._measure(self.cache, alike[:_PROBES])
        found = estimate(samples, self.cache.size, self.cache.bound, speed)
        used = self._place is not True or found.saved > 0
        if not used:
            self._close()
        count = passes[0].count
        epochs = "1 epoch" if count == 1 else f"{count} epochs"
        return f"cache: {'' if used else 'not used: '}{precision}, {found} over {epochs}"

    def prefetch(self, samples: Sequence[Tokens]) -> None:
        """Announce the samples of the next batch."""
        if self.cache is not None:
            self.cache.prefetch(sample_key(self._alone(sample)) for sample in samples)

    @property
    def uncached(self) -> int:
        """How many samples the cache couldn't take."""
        return 0 if self.cache is None else len(self.cache.refused)

    def batch(self, samples: Sequence[Tokens], batch: int, seq: int) -> Arrays:
        """Features and mask of a batch, padded to `batch` rows of `seq` tokens."""
        tokens = self._tokens(samples, batch, seq)
        if not self._manifest.has_backbone:
            return tokens
        if self._deep:
            features = self._gathered([self._rows(sample) for sample in samples], batch, seq)
        else:
            features = self._backbone(tokens, batch, seq)
        return {**features, MASK: tokens[MASK]}

    @property
    def _deep(self) -> bool:
        """Whether encoder layers lie below the cut."""
        return self._manifest.layers_below(self._phase) > 0

    def _rows(self, sample: Tokens) -> Arrays:
        """A sample's features as stored: [L, d] or [1, d] each."""
        tokens = self._alone(sample)
        key = sample_key(tokens)
        payload = None if self.cache is None else self.cache.get(key)
        if payload is None:
            payload = self._computed(tokens, len(sample.ids))
            if self.cache is not None:
                self.cache.put(key, len(sample.ids), payload)
        return self._packing.unpack(payload, len(sample.ids))

    def _computed(self, tokens: Arrays, length: int) -> bytes:
        features = self._backbone(tokens, 1, tokens[MASK].shape[1])
        return self._packing.pack(features, length)

    def _gathered(self, rows: Sequence[Arrays], batch: int, seq: int) -> Arrays:
        _, method = self._manifest.backbone_method(batch, seq, self._phase)
        gathered = {}
        for spec in method.outputs:
            array = np.zeros(spec.shape, np.float32)
            slots = array if spec.per_token else array[:, None]
            for slot, features in zip(slots, rows, strict=False):
                values = features[spec.name]
                slot[: len(values)] = values
            gathered[spec.name] = array
        return gathered

    def _backbone(self, tokens: Arrays, batch: int, seq: int) -> Arrays:
        name, _ = self._manifest.backbone_method(batch, seq, self._phase)
        return self._engine.run(name, tokens | self._held)

    def _alone(self, sample: Tokens) -> Arrays:
        return self._tokens([sample], 1, self._manifest.seq_for(len(sample.ids)))

    def _tokens(self, samples: Sequence[Tokens], batch: int, seq: int) -> Arrays:
        info = self._manifest.tokens
        return pad(samples, batch, seq, info.pad_id, info.inputs)

    def _open(self) -> FeatureCache:
        place = self._place
        if not isinstance(place, Path):
            self._scratch = tempfile.TemporaryDirectory(prefix="effine-")
            place = Path(self._scratch.name, "features.cache")
        return FeatureCache(
            place, self._artifact, self._packing, self._bound, self._phase, self._held
        )

    def _close(self) -> None:
        if self.cache is not None:
            self.cache.close()
            self.cache = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _sample(self, cache: FeatureCache, tokens: Tokens, uses: int) -> Sample:
        length = len(tokens.ids)
        stored = len(cache) > 0 and sample_key(self._alone(tokens)) in cache
        padded = self._manifest.seq_for(length)
        return Sample(tokens, padded, cache.record_size(length), uses, stored)

    def _measure(self, cache: FeatureCache, probes: Sequence[Sample]) -> Speed:
        """Compute, store and read some samples; the first, which loads the program, is left out."""
        measured = []
        for probe in probes:
            tokens, length = self._alone(probe.tokens), len(probe.tokens.ids)
            key = sample_key(tokens)
            begin = perf_counter()
            payload = self._computed(tokens, length)
            computed = perf_counter()
            cache.put(key, length, payload)
            stored = perf_counter()
            cache.get(key)
            read = perf_counter()
            measured.append(
                (
                    (computed - begin) / probe.padded,
                    (stored - computed) / probe.size,
                    (read - stored) / probe.size,
                )
            )
        return Speed(*map(min, zip(*measured[1:] or measured, strict=True)))
