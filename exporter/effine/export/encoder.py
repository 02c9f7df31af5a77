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

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effine.export.layers import Block, Shape

Visitor = Callable[[nn.Module, Tensor, Tensor], None]

MASKED = -1e9
ALL_TOKENS = "none"
"""The pooling of tasks that need a vector for each token."""
ONE_STEP = "decoder"
"""The pooling of models with a decoder: its final state after one step."""


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
