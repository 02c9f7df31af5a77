"""What steps have to compute and to move: multiplications and bytes, counted from shapes.

A block multiplies a text of n tokens with its weights, 4 n d^2 in attention and 2 n d f in the
feed-forward layer, and the tokens with each other, 2 n^2 d. A backward pass needs the first once
for the gradient of the block's input and once for those of its weights, the second twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from effine.export.backbones import load_backbone
from effine.runtime.manifest import Manifest

_FLOAT = 4
_COPIED = 1 << 24
_TRIES = 10


@dataclass(frozen=True)
class Dims:
    """Hidden size d, width f of the feed-forward layers, number of blocks."""

    hidden: int
    ffn: int
    depth: int


@dataclass(frozen=True)
class Work:
    """Multiplications, and bytes that gradients and optimizer move."""

    macs: float
    moved: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Both."""
        return Work(self.macs + other.macs, self.moved + other.moved)

    def __mul__(self, times: float) -> Work:
        """The same again and again."""
        return Work(self.macs * times, self.moved * times)


@dataclass(frozen=True)
class Rates:
    """Multiplications and bytes a second."""

    macs: float
    moved: float

    def seconds(self, work: Work) -> float:
        """How long the work takes if nothing else does."""
        return work.macs / self.macs + work.moved / self.moved


def dims_of(source: str) -> Dims:
    """The sizes of a backbone."""
    encoder = load_backbone(source).encoder
    width = int(encoder.layers[0].feed_forward.up.out_features)
    return Dims(encoder.hidden, width, encoder.depth)


def measure_rates(dims: Dims, tokens: int) -> Rates:
    """The best of a few products of the size of a feed-forward layer's, and copies, in PyTorch.

    Args:
        tokens: of a batch.
    """
    x, weight = torch.randn(tokens, dims.hidden), torch.randn(dims.hidden, dims.ffn)
    source, target = torch.zeros(_COPIED), torch.zeros(_COPIED)
    product = min(_seconds(lambda: torch.mm(x, weight)) for _ in range(_TRIES))
    copy = min(_seconds(lambda: target.copy_(source)) for _ in range(_TRIES))
    return Rates(tokens * dims.hidden * dims.ffn / product, 2 * _FLOAT * _COPIED / copy)


def block_macs(dims: Dims, tokens: float, kept: float | None = None) -> float:
    """Of one block's forward pass over a text, of whose tokens `kept` reach the FFN."""
    return weight_macs(dims, tokens, kept) + score_macs(dims, tokens)


def weight_macs(dims: Dims, tokens: float, kept: float | None = None) -> float:
    """Of a block's products with weights."""
    into_ffn = tokens if kept is None else kept
    return 4 * tokens * dims.hidden**2 + 2 * into_ffn * dims.hidden * dims.ffn


def score_macs(dims: Dims, tokens: float) -> float:
    """Of a block's products of tokens with tokens."""
    return 2 * tokens**2 * dims.hidden


def pass_macs(dims: Dims, kept: Sequence[float], tokens: float) -> float:
    """Of a forward pass in which block l hands on `kept[l]` of the tokens that reach it."""
    reaching = [tokens, *kept[:-1]]
    return sum(block_macs(dims, n, left) for n, left in zip(reaching, kept, strict=True))


def step_macs(
    dims: Dims, tokens: float, *, below: int = 0, cached: bool = False, ffn_trained: float = 1.0
) -> float:
    """Of a training step on a text in which the blocks above the cut train.

    Args:
        below: blocks below the cut, which run forward alone.
        cached: whether not even that.
        ffn_trained: the share of feed-forward weights that get gradients.
    """
    above = dims.depth - below
    frozen = (1 - ffn_trained) * 2 * tokens * dims.hidden * dims.ffn
    trained = 3 * block_macs(dims, tokens) - frozen
    return above * trained + (0 if cached else below * block_macs(dims, tokens))


def crossed_macs(dims: Dims, tokens: float, blocks: int) -> float:
    """Of a step through frozen blocks that gradients cross."""
    return blocks * (2 * weight_macs(dims, tokens) + 3 * score_macs(dims, tokens))


def moved_bytes(manifest: Manifest, phase: str | None = None) -> int:
    """Bytes that gradients and optimizer move in a step, counted from the state's layout.

    Whatever a step updates is read and written once, and so is the gradient of what it trains.
    """
    _, method = manifest.train_method(manifest.shapes.seqs[-1], phase)
    roles = {entry.name: entry.role for entry in manifest.state}
    total = 0
    for spec in method.inputs:
        if spec.role in ("update", "statistic"):
            times = 2 if roles[spec.name] == "parameter" else 1
            total += times * 2 * _FLOAT * math.prod(spec.shape)
    return total


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
