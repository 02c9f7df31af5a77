"""The canonical Transformer encoder that every backbone is loaded into.

Hidden states are rows: [B*S, d], one row per token. Linear layers, norms and
pieces then work on plain matrices, and the captured graph needs a reshape only
around the attention heads, which keeps XNNPACK delegates large.

The encoder is a sequence of 2L + 1 stages: stage 0 is the embedding norm, stage
2k - 1 is block k, stage 2k the piece that a method put behind block k (else the
identity). A cut before stage s leaves everything below s frozen, and the features
are the input of stage s. Between attention and feed-forward layer of a block a method may
put a gate, which weighs or drops tokens.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from effine.export.errors import ExportError

Visitor = Callable[[nn.Module, Tensor, Tensor], None]

MASKED = -1e9
ALL_TOKENS = "none"
"""The pooling of tasks that need a vector for each token."""
ONE_STEP = "decoder"
"""The pooling of models with a decoder: its final state after one step."""


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


class Encoder(nn.Module):
    """A pretrained encoder in canonical form, with slots where methods put pieces.

    Args:
        architecture: the name of the backbone file that built it.
        embeddings: token inputs [B, S] to embedding sums [B, S, d].
        embedding_norm: what is applied to the rows of the sums (stage 0): a norm, and a
            projection to d where the embeddings are narrower (`norm_and_projection`).
        layers: the blocks, 1..L; the same one several times where layers share weights.
        pooling: `mean` over valid tokens, `cls` for the first token, `ALL_TOKENS`, or
            `ONE_STEP` where there is a decoder.
        hub_names: canonical module name of each linear layer to its name in
            transformers, used to write weights in the field's formats. Layers that are
            part of a larger matrix there have none.
        decoder: frozen whatever the method; see `decoder.Decoder`.
    """

    def __init__(
        self,
        architecture: str,
        embeddings: nn.Module,
        embedding_norm: nn.Module,
        layers: Sequence[Block],
        *,
        max_positions: int,
        pooling: str,
        hub_names: Mapping[str, str],
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.hidden = layers[0].feed_forward.up.in_features
        self.heads = layers[0].attention.heads
        self.architecture = architecture
        self.embeddings = embeddings
        self.embedding_norm = embedding_norm
        self.layers: Any = nn.ModuleList(layers)
        self.pieces = nn.ModuleList(nn.Identity() for _ in layers)
        self.side: Any = None
        self.gates: Any = nn.ModuleDict()
        self.decoder: Any = decoder
        self.max_positions = max_positions
        self.pooling = pooling
        self.hub_names = dict(hub_names)

    @property
    def depth(self) -> int:
        """The number of blocks L."""
        return len(self.layers)

    @property
    def token_inputs(self) -> tuple[str, ...]:
        """The names of the token inputs, in program order."""
        types = getattr(self.embeddings, "token_types", None)
        middle = () if types is None else ("token_type_ids",)
        return ("input_ids", *middle, "attention_mask")

    def run(self, rows: Tensor, mask: Tensor, start: int, stop: int) -> list[Tensor]:
        """Run stages start..stop-1 over rows [B*S, d]; returns the rows before and after each.

        Args:
            rows: the input of stage `start`, [B*S, d].
            mask: attention mask [B, S], int64, 1 for valid tokens.
        """
        return [rows, *(after for after, _ in self._walk(rows, mask, start, stop))]

    def finish(
        self, rows: Tensor, mask: Tensor, start: int, visit: Visitor | None = None
    ) -> Tensor:
        """Run the stages from `start` on over rows [B*S, d], and pool the tokens that are left.

        Args:
            visit: called with each stage's module, the rows that it gets and their mask.
        """
        for stage, (after, left) in enumerate(self._walk(rows, mask, start, self.stages), start):
            if visit is not None:
                visit(self.stage(stage), rows, mask)
            rows, mask = after, left
        return self.pool(rows, mask)

    def _walk(
        self, rows: Tensor, mask: Tensor, start: int, stop: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows after each stage, and their mask: gates drop tokens of both."""
        seq = mask.shape[1]
        bias = self.attention_bias(mask)
        for stage in range(start, stop):
            module, name = self.stage(stage), str(stage // 2)
            if not isinstance(module, Block):
                rows = module(rows)
            elif name not in self.gates:
                rows = module(rows, bias, Shape(*mask.shape))
            else:
                rows, weights = module.attend(rows, bias, Shape(*mask.shape))
                rows, mask = self.gates[name](rows, weights, mask, seq)
                bias = self.attention_bias(mask)
                rows = module.feed(rows)
            yield rows, mask

    def stage(self, index: int) -> nn.Module:
        """The module of stage `index`, 0..2L."""
        if index == 0:
            return self.embedding_norm
        return (self.layers if index % 2 else self.pieces)[(index - 1) // 2]

    @property
    def stages(self) -> int:
        """The number of stages, 2L + 1."""
        return 2 * self.depth + 1

    def attention_bias(self, mask: Tensor) -> Tensor:
        """Turn the mask [B, S] into the additive bias [B*H, 1, S] of attention scores."""
        bias = (1.0 - mask.to(torch.float32)) * MASKED
        return bias.unsqueeze(1).expand(-1, self.heads, -1).reshape(-1, 1, mask.shape[1])

    def embed(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Embedding sums as rows [B*S, d], the input of stage 0."""
        return self.embeddings(tokens).flatten(0, 1)

    def pool(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Pool final hidden states [B*S, d] to sentence vectors [B, d].

        With `ALL_TOKENS` they stay as they are, [B, S, d].
        """
        states = rows.view(*mask.shape, -1)
        if self.pooling == ALL_TOKENS:
            return states
        if self.pooling == "cls":
            return states[:, 0]
        return self.steps(rows, mask)[-1] if self.pooling == ONE_STEP else self.mean(rows, mask)

    def steps(self, rows: Tensor, mask: Tensor) -> list[Tensor]:
        """The decoder's states [B, d] behind each of its blocks, from final ones [B*S, d]."""
        found: list[Tensor] = self.decoder(rows, self.attention_bias(mask), Shape(*mask.shape))
        return found

    def mean(self, rows: Tensor, mask: Tensor) -> Tensor:
        """The mean [B, d] of rows [B*S, d] over valid tokens."""
        valid = mask.to(torch.float32)
        share = valid / valid.sum(dim=1, keepdim=True)
        return torch.bmm(share.unsqueeze(1), rows.view(*mask.shape, -1)).squeeze(1)
