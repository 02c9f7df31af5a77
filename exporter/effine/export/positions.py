"""What attention knows of positions: rotations, and scores by the distance of two tokens.

All of it follows from the sequence length of a program, so that lowering computes the
tables (`fold_positions` in `lowering/passes.py`) and a phone doesn't.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from effine.export.encoder import MASKED


class Rotary(nn.Module):
    """Turns pairs of values by angles that grow with the position. Su et al., 2104.09864.

    Args:
        theta: position p turns pair i of a head of width w by p * theta^(-2i / w).
    """

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, x: Tensor, seq: int, heads: int) -> Tensor:
        """Turn the queries or keys x [B*S, d]; value i of a head pairs with i + w / 2."""
        parts = x.view(-1, seq, heads, x.shape[1] // heads)
        width = parts.shape[-1]
        rates = 1.0 / self.theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.arange(seq, dtype=torch.float32).unsqueeze(1) * rates
        along = torch.cat([angles.cos(), angles.cos()], 1).unsqueeze(1)
        across = torch.cat([-angles.sin(), angles.sin()], 1).unsqueeze(1)
        return (parts * along + parts.roll(width // 2, -1) * across).view(x.shape)


class Window(nn.Module):
    """Masks tokens that are more than `reach` positions away."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, seq: int) -> Tensor:
        """Additive scores [S, S] of query and key."""
        return (_offsets(seq).abs() > self.reach).to(torch.float32) * MASKED


class Buckets(nn.Module):
    """A trained score for each head and bucket of distances. Raffel et al., 1910.10683.

    Half of the buckets are for keys behind the query. In either half the first half holds
    one distance each, and the others grow by a constant factor up to `furthest`.
    """

    def __init__(self, buckets: int, heads: int, furthest: int = 128) -> None:
        super().__init__()
        self.scores = nn.Embedding(buckets, heads)
        self.furthest = furthest

    def forward(self, seq: int) -> Tensor:
        """Additive scores [H, S, S] of query and key."""
        return self.scores(self.numbers(seq)).permute(2, 0, 1)

    def numbers(self, seq: int) -> Tensor:
        """The bucket of each query and key, [S, S] int64."""
        half = self.scores.num_embeddings // 2
        exact = half // 2
        offsets = _offsets(seq)
        distance = offsets.abs()
        steps = torch.log(distance.clamp(min=exact).to(torch.float32) / exact)
        steps = steps / math.log(self.furthest / exact) * (half - exact)
        coarse = (steps.to(torch.int64) + exact).clamp(max=half - 1)
        near = (distance < exact).to(torch.int64)
        return (offsets > 0).to(torch.int64) * half + near * distance + (1 - near) * coarse


def _offsets(seq: int) -> Tensor:
    """Position of the key less that of the query, [S, S]."""
    positions = torch.arange(seq)
    return positions.unsqueeze(0) - positions.unsqueeze(1)
