"""A frozen decoder's single step from its start token, which turns a text into one vector.

Nothing is generated: the state that the language model's head would read the first word
from is what a task's head reads, and the head starts from its rows for the labels' words.
The decoder is run on the states of the encoder as they are at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from effine.export.layers import Attention, FeedForward, Shape


class DecoderBlock(nn.Module):
    """A block that normalises first, for the decoder's first position alone.

    What a single token gets when it attends to itself is its own value, so the queries,
    keys and distances of self-attention play no part and are left out.

    Args:
        value, output: of self-attention.
        crossing: attention over the encoder's states.
        norms: before each of the three layers, and behind the block.
    """

    def __init__(
        self,
        value: nn.Linear,
        output: nn.Linear,
        crossing: Attention,
        feed_forward: FeedForward,
        norms: tuple[nn.Module, nn.Module, nn.Module, nn.Module],
    ) -> None:
        super().__init__()
        self.value = value
        self.output = output
        self.crossing = crossing
        self.feed_forward = feed_forward
        self.value_norm, self.crossing_norm, self.feed_forward_norm, self.last_norm = norms

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor, shape: Shape) -> Tensor:
        """Map x [B, d] to [B, d]; `memory` [B*S, d] are the encoder's states."""
        x = x + self.output(self.value(self.value_norm(x)))
        crossed, _ = self.crossing(self.crossing_norm(x), bias, shape, memory)
        x = x + crossed
        return self.last_norm(x + self.feed_forward(self.feed_forward_norm(x)))


class Decoder(nn.Module):
    """One step of a decoder, with a slot for a side network as the encoder has.

    Args:
        layers: the blocks.
        start: the embedding [d] of the start token.
        words: the rows [V, d] of the language model's head.
        scale: what the head multiplies states by.
    """

    def __init__(
        self, layers: Sequence[DecoderBlock], start: Tensor, words: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)
        self.start = nn.Parameter(start.detach().clone())
        self.side: Any = None
        self._words = words.detach()
        self._scale = scale

    def forward(self, memory: Tensor, bias: Tensor, shape: Shape) -> list[Tensor]:
        """The states [B, d] behind each block.

        Args:
            memory: the encoder's final states [B*S, d].
            bias: additive attention bias [B*H, 1, S].
        """
        states = [self.start.expand(shape.batch, -1)]
        for layer in self.layers:
            states.append(layer(states[-1], memory, bias, shape))
        return states[1:]

    def rows(self, ids: Sequence[int]) -> Tensor:
        """Rows [N, d] that give the language model's logits of these tokens from a final state."""
        return self._words[list(ids)] * self._scale
