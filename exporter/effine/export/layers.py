"""The layers that blocks of any architecture are made of, and the embeddings below them.

Hidden states are rows: [B*S, d], one row per token.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from effine.export.errors import ExportError


def _tanh_gelu(x: Tensor) -> Tensor:
    """GELU's approximation by tanh, spelt out: XNNPACK delegates gelu in its exact form alone."""
    return 0.5 * x * (1.0 + torch.tanh((x + 0.044715 * x * x * x) * math.sqrt(2.0 / math.pi)))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": torch.relu,
    "silu": lambda x: x * torch.sigmoid(x),
}


@dataclass(frozen=True)
class Shape:
    """The batch and sequence length of one static program."""

    batch: int
    seq: int


class Attention(nn.Module):
    """Multi-head attention with separate query, key, value and output projections.

    An architecture may set `rotation`, which turns queries and keys by their positions
    (`positions.Rotary`), and `distance`, which adds to the scores what follows from the
    distance between two tokens (`positions.Buckets`, `positions.Window`). Layers may
    share the latter: equal expressions are computed once in a program.

    Args:
        width: of a head; by default the heads divide the hidden size.
        scale: factor on the scores, by default width^-0.5.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        bias: bool = True,
        width: int | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        width = width or hidden // heads
        self.heads = heads
        self.scale = width**-0.5 if scale is None else scale
        self.query = nn.Linear(hidden, heads * width, bias)
        self.key = nn.Linear(hidden, heads * width, bias)
        self.value = nn.Linear(hidden, heads * width, bias)
        self.output: nn.Module = nn.Linear(heads * width, hidden, bias)
        self.rotation: Any = None
        self.distance: Any = None

    def forward(
        self, x: Tensor, bias: Tensor, shape: Shape, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend over x [B*S, d], or from x [B, d] over `memory` [B*S, d].

        Args:
            bias: additive, [B*H, 1, S].

        Returns:
            x's shape, and the probabilities of query and key [B*H, S or 1, S].
        """
        memory = x if memory is None else memory
        query = self.query(x)
        turned = (query if self.scale == 1.0 else query * self.scale, self.key(memory))
        if self.rotation is not None:
            turned = tuple(self.rotation(rows, shape.seq, self.heads) for rows in turned)
        if self.distance is not None:
            far = bias.view(shape.batch, self.heads, 1, shape.seq) + self.distance(shape.seq)
            bias = far.reshape(-1, shape.seq, shape.seq)
        query = self._split(turned[0], shape, (0, 2, 1, 3))
        key = self._split(turned[1], shape, (0, 2, 3, 1))
        value = self._split(self.value(memory), shape, (0, 2, 1, 3))
        weights = torch.softmax(torch.bmm(query, key) + bias, dim=-1)
        context = torch.bmm(weights, value)
        context = context.view(shape.batch, self.heads, -1, context.shape[-1])
        return self.output(context.permute(0, 2, 1, 3).reshape(len(x), -1)), weights

    def _split(self, x: Tensor, shape: Shape, order: tuple[int, ...]) -> Tensor:
        width = x.shape[1] // self.heads
        parts = x.view(shape.batch, -1, self.heads, width).permute(order)
        return parts.reshape(-1, *parts.shape[2:])


class RMSNorm(nn.Module):
    """nn.RMSNorm, written in operators that XNNPACK delegates."""

    def __init__(self, hidden: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of x [N, d]."""
        mean = (x * x).sum(-1, keepdim=True) * (1.0 / x.shape[-1])
        return x * torch.rsqrt(mean + self.eps) * self.weight


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, hidden: int, width: int, activation: str, bias: bool = True) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ExportError(
                f"--model: activation '{activation}' is not known; known: {', '.join(ACTIVATIONS)}"
            )
        self.up = nn.Linear(hidden, width, bias)
        self.down = nn.Linear(width, hidden, bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B*S, d] to [B*S, d]."""
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(FeedForward):
    """A feed-forward layer whose activation is multiplied by a third projection (GLU)."""

    def __init__(self, hidden: int, width: int, activation: str, bias: bool = True) -> None:
        super().__init__(hidden, width, activation, bias)
        self.gate = nn.Linear(hidden, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B*S, d] to [B*S, d]."""
        return self.down(self.activation(self.up(x)) * self.gate(x))


class Block(nn.Module):
    """A post-norm Transformer block."""

    norm_first: ClassVar[bool] = False

    def __init__(self, hidden: int, heads: int, width: int, activation: str, eps: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.attention_norm: nn.Module = nn.LayerNorm(hidden, eps)
        self.feed_forward = FeedForward(hidden, width, activation)
        self.feed_forward_norm: nn.Module = nn.LayerNorm(hidden, eps)

    def forward(self, x: Tensor, bias: Tensor, shape: Shape) -> Tensor:
        """Map x [B*S, d] with the additive attention bias [B*H, 1, S] to [B*S, d]."""
        return self.feed(self.attend(x, bias, shape)[0])

    def attend(self, x: Tensor, bias: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        """The first half: x [B*S, d] after attention, and its probabilities [B*H, S, S]."""
        attended, weights = self.attention(x, bias, shape)
        return self.attention_norm(attended + x), weights

    def feed(self, x: Tensor) -> Tensor:
        """The second half, the feed-forward layer, which takes each row of x [N, d] alone."""
        return self.feed_forward_norm(self.feed_forward(x) + x)


class PreNormBlock(Block):
    """A block that normalises what goes into its layers.

    The encoder's final norm belongs to its last block, so that the output of the last
    block is that of the encoder, as in the other architectures.

    Args:
        norms: before the attention, before the feed-forward layer, and behind the block.
    """

    norm_first = True

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        norms: tuple[nn.Module, nn.Module, nn.Module],
    ) -> None:
        nn.Module.__init__(self)
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm, self.feed_forward_norm, self.last_norm = norms

    def attend(self, x: Tensor, bias: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        """The first half: x [B*S, d] after attention, and its probabilities [B*H, S, S]."""
        attended, weights = self.attention(self.attention_norm(x), bias, shape)
        return x + attended, weights

    def feed(self, x: Tensor) -> Tensor:
        """The second half, the feed-forward layer, which takes each row of x [N, d] alone."""
        return self.last_norm(x + self.feed_forward(self.feed_forward_norm(x)))


class Embeddings(nn.Module):
    """Sums of word and (where the model has them) position and token type embeddings.

    Args:
        padding: the id of padding tokens in models that count positions over all other
            tokens, from padding + 1 on.
    """

    def __init__(
        self,
        vocabulary: int,
        max_positions: int,
        types: int,
        hidden: int,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions: Any = nn.Embedding(max_positions, hidden) if max_positions else None
        self.token_types: Any = nn.Embedding(types, hidden) if types else None
        self.padding = padding

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embed token inputs [B, S] (int64); returns [B, S, d]."""
        ids = tokens["input_ids"]
        summed = self.words(ids)
        if self.positions is not None:
            summed = summed + self._positions(ids)
        if self.token_types is None:
            return summed
        return summed + self.token_types(tokens["token_type_ids"])

    def _positions(self, ids: Tensor) -> Tensor:
        if self.padding is None:
            rows: Tensor = self.positions.weight[: ids.shape[1]]
            return rows
        counted = (ids != self.padding).to(torch.int64)
        return self.positions(counted.cumsum(1) * counted + self.padding)


def norm_and_projection(norm: nn.Module, projection: nn.Module) -> nn.Module:
    """Stage 0 of models whose embeddings [V, e] are narrower than their hidden states."""
    return nn.Sequential(OrderedDict(norm=norm, projection=projection))
