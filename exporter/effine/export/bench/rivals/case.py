"""One measurement's common ground: the same model, parameters, batch and threads for all sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from effine.export.bench.rivals.network import (
    RivalNetwork,
    as_tensors,
    check_rival,
    reference_model,
    rival_network,
)
from effine.export.model import Model
from effine.runtime.artifact import Artifact

Turn = Callable[[], float]
RATE = 0.01
_SAME_LOSS = 1e-3
_SAME_CHANGE = 0.05


class Unavailable(Exception):
    """A rival can't be measured here; the message says why."""


@dataclass(frozen=True)
class Batch:
    """One full batch: every token is valid, which suits the rivals' attention best."""

    tokens: dict[str, np.ndarray]
    labels: np.ndarray

    def tensors(self) -> tuple[dict[str, Tensor], Tensor]:
        """Token inputs [B, S] by name, and labels [B], sharing the arrays' memory."""
        return as_tensors(self.tokens), torch.from_numpy(self.labels)


@dataclass(frozen=True)
class Case:
    """What every side of one measurement works on.

    Args:
        source: the backbone as given at export.
        model: effine's own, its parameters perturbed: where all sides start.
        threads: size of everyone's thread pool.
        ort_python: the interpreter of an environment with onnxruntime-training-cpu.
    """

    artifact: Artifact
    source: str
    model: Model
    batch: Batch
    threads: int
    ort_python: Path | None = None

    def network(self, attention: str = "sdpa") -> RivalNetwork:
        """The same method on the transformers model, checked to compute the same logits."""
        network = RivalNetwork(self.model, self.source, attention)
        check_rival(network, self.model, as_tensors(self.batch.tokens))
        return network

    def full_network(self) -> RivalNetwork:
        """The transformers model under a new head; every weight trains."""
        return rival_network(self.artifact, self.source, "full")


@dataclass(frozen=True)
class Rival:
    """A competitor in `effine bench step`.

    Args:
        trains: `method` for what the artifact's method trains, `all` for every weight.
        start: prepares it for a case; within its context the turn takes one step. It
            raises Unavailable where the tool is missing or can't do this.
    """

    name: str
    summary: str
    trains: str
    start: Callable[[Case], AbstractContextManager[Turn]]


def make_case(
    artifact: Artifact, source: str, threads: int, ort_python: Path | None = None
) -> Case:
    """A case at the artifact's batch size and longest sequence."""
    model = reference_model(artifact, source, perturbed=True)
    batch = full_batch(artifact, artifact.manifest.shapes.seqs[-1])
    return Case(artifact, source, model, batch, threads, ort_python)


def full_batch(artifact: Artifact, seq: int) -> Batch:
    """A random batch of the artifact's batch size, `seq` tokens each."""
    manifest = artifact.manifest
    random = np.random.default_rng(0)
    shape = (manifest.shapes.batch, seq)
    vocabulary = Tokenizer.from_file(str(artifact.file("tokenizer.json"))).get_vocab_size()
    tokens = {name: np.zeros(shape, np.int64) for name in manifest.tokens.inputs}
    tokens["input_ids"] = random.integers(vocabulary // 10, vocabulary, shape)
    tokens["attention_mask"] = np.ones(shape, np.int64)
    if manifest.task.name == "regression":
        return Batch(tokens, random.normal(3.0, 1.0, shape[0]).astype(np.float32))
    return Batch(tokens, random.integers(0, len(manifest.task.labels), shape[0]))


def timed(step: Callable[[], object]) -> Turn:
    """A turn that takes a step in this process."""

    def turn() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return turn


@contextmanager
def foreign(tool: str) -> Iterator[None]:
    """Whatever another's tool raises becomes the reason why it isn't measured."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(f"{tool}: {lines[0]}") from error


def check_losses(
    case: Case, network: RivalNetwork, optimizer: torch.optim.Optimizer, losses: Sequence[float]
) -> None:
    """Hold a tool's losses of two successive steps against PyTorch's.

    Args:
        network: trained by this, on the case's batch.
        optimizer: torch.optim's equivalent of the tool's, over the network's parameters.

    Raises:
        Unavailable: the tool doesn't train as PyTorch does.
    """
    tokens, labels = case.batch.tensors()
    expected = []
    for _ in losses:
        optimizer.zero_grad()
        loss = network.loss(tokens, labels)
        expected.append(loss.item())
        loss.backward()
        optimizer.step()
    first, change = expected[0], expected[1] - expected[0]
    off = abs(losses[1] - losses[0] - change) > _SAME_CHANGE * abs(change)
    if off or abs(losses[0] - first) > _SAME_LOSS * max(1.0, abs(first)):
        shown = [" -> ".join(f"{loss:.6f}" for loss in pair) for pair in (losses, expected)]
        raise Unavailable(
            f"it doesn't train as PyTorch does: its loss {shown[0]}, PyTorch's {shown[1]}"
        )
