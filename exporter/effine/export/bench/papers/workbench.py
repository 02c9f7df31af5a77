"""What the papers' measurements share: settings, artifacts, data, and a timed training run."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from effine.export.backbones import load_backbone, packaged_minilm
from effine.export.bench.memory import native_peak
from effine.export.bench.papers.work import dims_of, measure_rates, moved_bytes
from effine.export.bench.rivals.case import Unavailable
from effine.export.bench.subsets import draw, parts_of
from effine.export.bench.timing import alternate, milliseconds, spread
from effine.export.errors import ExportError
from effine.export.methods import make_method
from effine.export.parity import native_runner
from effine.export.pipeline import export
from effine.export.prepare import prepare
from effine.export.shapes import LIMIT, STEP
from effine.runtime.artifact import Artifact
from effine.runtime.data import as_examples
from effine.runtime.engines.executorch import set_threads
from effine.runtime.engines.native import Runner
from effine.runtime.errors import EngineError
from effine.runtime.examples import Example
from effine.runtime.run import Progress
from effine.runtime.trainer import Trainer

MOST = "most"
_COVERED = 0.95
_TASK = "classification"
_HEAD_SIZE = 64
_RANDOM = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True)
class Settings:
    """What all measurements share.

    Args:
        folder: a data set as `parts_of` takes it.
        examples: train on a stratified part of so many, drawn by the run's seed.
        max_test: test on a stratified part of so many.
        work: where artifacts are kept and found again.
        epochs: instead of the paper's or the recipe's.
        steps, warmup: of the timed ones.
        random_bert: blocks and hidden size, such as 12x768, of a BERT with random weights.
        backbone_precision: of frozen layers, where a method has some.
    """

    folder: Path
    work: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    examples: int | None = None
    max_test: int | None = None
    epochs: int | None = None
    source: str = "minilm"
    random_bert: str = "12x768"
    backbone_precision: str = "fp32"
    batch: int = 8
    threads: int = 1
    steps: int = 30
    warmup: int = 3

    def __post_init__(self) -> None:
        """Refuse what would fail only after hours.

        Raises:
            ExportError: data are missing, or the random BERT can't be.
        """
        parts_of(self.folder)
        found = _RANDOM.fullmatch(self.random_bert)
        if found is None or int(found[2]) % _heads(int(found[2])):
            raise ExportError(
                f"--random-bert {self.random_bert}: expected blocks x hidden size, such as 12x768, "
                "the latter a multiple of 64"
            )

    @property
    def random_dims(self) -> tuple[int, int]:
        """Blocks and hidden size of the random BERT."""
        depth, _, hidden = self.random_bert.partition("x")
        return int(depth), int(hidden)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: what trains, and how.

    Args:
        seq: as in an export, or `MOST` for one length that covers 95 % of the texts.
        phase: where training starts and, without a policy, stays.
        cache: whether features may be cached.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    pooling: str | None = None
    seq: str = "auto"
    phase: str | None = None
    cache: bool = True

    @property
    def file(self) -> str:
        """A name for its artifact, which arms with the same programs share."""
        options = (f"{name}-{value}" for name, value in sorted(self.options.items()))
        words = (self.method, *options, self.pooling or "", self.seq)
        return re.sub(r"[^a-z0-9.]+", "-", " ".join(words).lower()).strip("-")


@dataclass(frozen=True)
class Measurement:
    """One record: the setting that tells it from others, and how to get the rest."""

    setting: Mapping[str, Any]
    measure: Callable[[], dict[str, Any]]


class Workbench:
    """Makes artifacts when they are first needed, and measures on them.

    Everyone's thread pool gets its size here, because programs keep the pool they are loaded with.
    """

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        set_threads(settings.threads)
        self.settings = settings
        self.train, self.test = parts_of(settings.folder)

    def measurement(
        self,
        paper: str,
        part: str,
        measure: Callable[[], dict[str, Any]],
        *,
        arm: str | None = None,
        seed: int | None = None,
        **changed: Any,
    ) -> Measurement:
        """A measurement under these settings, some of which it may have changed."""
        s = self.settings
        setting: dict[str, Any] = {
            "paper": paper,
            "part": part,
            "arm": arm,
            "model": Path(s.source).name,
            "precision": s.backbone_precision,
            "data": s.folder.absolute().name,
            "examples": s.examples,
            "max_test": s.max_test,
            "epochs": s.epochs,
            "batch": s.batch,
            "threads": s.threads,
            "seed": seed,
        }
        return Measurement(setting | changed, measure)

    def artifact(self, arm: Arm, source: str | None = None) -> Artifact:
        """The arm's artifact for this data, exported unless it is there."""
        s = self.settings
        source = source or s.source
        freezes = make_method(arm.method, arm.options).freezes_layers
        precision = s.backbone_precision if freezes else "fp32"
        parts = (s.folder.absolute().name, Path(source).name, arm.file, f"b{s.batch}", precision)
        name = f"{'-'.join(parts)}.effine"
        if (s.work / name).exists():
            return Artifact.open(s.work / name)
        s.work.mkdir(parents=True, exist_ok=True)
        return export(
            source,
            method=arm.method,
            options=arm.options,
            task=_TASK,
            data=self.train,
            pooling=arm.pooling,
            seq=str(self.covering) if arm.seq == MOST else arm.seq,
            batch=s.batch,
            backbone_precision=precision,
            out=s.work / name,
        )

    def drawn(self, seed: int, size: int | None = None) -> list[Example]:
        """Examples to train on: the settings' number of them, or a smaller size."""
        wanted = [number for number in (self.settings.examples, size) if number is not None]
        return draw(as_examples(self.train, _TASK), min(wanted, default=None), None, seed)

    @cached_property
    def tested(self) -> list[Example]:
        """Examples to test on: all, or the same stratified part for every run."""
        return draw(as_examples(self.test, _TASK), self.settings.max_test, None, seed=0)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each text to train on."""
        backbone = load_backbone(self.settings.source)
        return prepare(_TASK, self.train, None, 0, backbone).lengths

    @property
    def covering(self) -> int:
        """The smallest length of a program that holds 95 % of the texts."""
        longest = int(np.quantile(self.lengths, _COVERED, method="higher"))
        return min(-(-longest // STEP) * STEP, LIMIT)

    def runs(self, paper: str, arms: Mapping[str, Arm], **changed: Any) -> list[Measurement]:
        """Training of each arm with each seed, the arms of a seed one after the other."""
        return [
            self.measurement(
                paper,
                "run",
                partial(self.run, arm, seed, changed.get("examples")),
                arm=name,
                seed=seed,
                **changed,
            )
            for seed in self.settings.seeds
            for name, arm in arms.items()
        ]

    def run(self, arm: Arm, seed: int, size: int | None = None) -> dict[str, Any]:
        """Train, and score on the test examples.

        Tokenizing, loading the programs and filling the cache count in the first epoch; what a
        later phase needs is loaded when it begins.
        """
        artifact = self.artifact(arm)
        train = self.drawn(seed, size)
        trainer = Trainer(artifact, cache=arm.cache)
        ends = [time.perf_counter()]

        def mark(progress: Progress) -> None:
            if progress.metrics is not None:
                ends.append(time.perf_counter())

        settings: dict[str, Any] = {
            "seed": seed,
            "epochs": self.settings.epochs,
            "phase": arm.phase,
        }
        report = trainer.fit(train, callbacks=[mark], **settings)
        return {
            **about(artifact),
            "trained": len(train),
            "epoch_s": [end - start for start, end in itertools.pairwise(ends)],
            "scores": trainer.evaluate(self.tested),
            "decisions": report.decisions,
            "cache": report.cache,
        }

    def memory(self, paper: str, arms: Mapping[str, Arm], **changed: Any) -> list[Measurement]:
        """The native runner's peak while it trains each arm."""
        return [
            self.measurement(paper, "memory", partial(self._peak, arm), arm=name, **changed)
            for name, arm in arms.items()
        ]

    def _peak(self, arm: Arm) -> dict[str, Any]:
        artifact = self.artifact(arm)
        return {**about(artifact), "peak": native_peak(artifact, runner_here())}

    def times(self, turns: Mapping[str, Callable[[], float]]) -> dict[str, dict[str, float]]:
        """The spread of each turn's milliseconds, all turns taken in every round."""
        s = self.settings
        taken = alternate(turns, s.steps, s.warmup)
        return {name: spread(milliseconds(seconds)) for name, seconds in taken.items()}

    def machine(self, tokens: int) -> dict[str, Any]:
        """The backbone's sizes, and what the machine does a second with so many tokens a batch."""
        dims = dims_of(self.settings.source)
        rates = measure_rates(dims, tokens)
        return {"dims": asdict(dims), "rates": asdict(rates), "steps": self.settings.steps}

    def random_bert(self, depth: int, hidden: int, widening: int = 4) -> str:
        """A directory with a BERT of random weights; its FFN has `widening` times its width."""
        path = self.settings.work / name_of_bert(depth, hidden, widening)
        if not (path / "model.safetensors").exists():
            torch.manual_seed(0)
            packaged = AutoTokenizer.from_pretrained(packaged_minilm())
            config = BertConfig(
                vocab_size=len(packaged),
                hidden_size=hidden,
                num_hidden_layers=depth,
                num_attention_heads=_heads(hidden),
                intermediate_size=widening * hidden,
            )
            packaged.save_pretrained(path)
            BertModel(config).save_pretrained(path)
        return str(path)


def runner_here() -> Runner:
    """The native runner.

    Raises:
        Unavailable: it can't be built here.
    """
    try:
        return native_runner()
    except (EngineError, ExportError) as error:
        raise Unavailable(str(error)) from error


def name_of_bert(depth: int, hidden: int, widening: int = 4) -> str:
    """The directory of a BERT with random weights."""
    return f"bert-{depth}x{hidden}-{widening * hidden}"


def about(artifact: Artifact) -> dict[str, Any]:
    """What arithmetic needs to know of an artifact."""
    manifest = artifact.manifest
    return {
        "seqs": list(manifest.shapes.seqs),
        "parameters": sum(math.prod(entry.shape) for entry in manifest.parameters),
        "phases": {
            phase: {
                "below": manifest.layers_below(phase),
                "moved": moved_bytes(manifest, phase),
            }
            for phase in manifest.phases or [manifest.first_phase]
        },
    }


def _heads(hidden: int) -> int:
    return max(1, hidden // _HEAD_SIZE)
