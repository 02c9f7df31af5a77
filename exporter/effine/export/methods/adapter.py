"""Bottleneck adapters. Houlsby et al., 1902.00751; Pfeiffer et al., 2005.00247."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.methods import Method, Options, Recipe, method, option


class Bottleneck(nn.Module):
    """A(z) = Wu relu(Wd z + bd) + bu; starts as zero because Wu and bu do."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        nn.init.normal_(self.down.weight, std=0.02)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, z: Tensor) -> Tensor:
        """Map z [N, d] to [N, d]."""
        return self.up(torch.relu(self.down(z)))


class Residual(nn.Module):
    """z + A(z), optionally behind a frozen sub-layer."""

    def __init__(self, hidden: int, width: int, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before
        self.adapter = Bottleneck(hidden, width)

    def forward(self, z: Tensor) -> Tensor:
        """Map z [N, d] to [N, d]."""
        z = z if self.before is None else self.before(z)
        return z + self.adapter(z)


class AdapterNorm(nn.Module):
    """LN(A(LN(s)) + s), the same norm twice; s = sub-layer output + its residual."""

    def __init__(self, norm: nn.Module, hidden: int, width: int) -> None:
        super().__init__()
        self.norm = norm
        self.adapter = Bottleneck(hidden, width)

    def forward(self, s: Tensor) -> Tensor:
        """Map s [N, d] to [N, d]."""
        return self.norm(self.adapter(self.norm(s)) + s)


@dataclass(frozen=True)
class AdapterOptions(Options):
    """Settings of the bottleneck adapter."""

    width: int = option(64, "rows of the down projection")
    placement: str = option(
        "block",
        "block: behind each block; pfeiffer: behind the feed-forward layer, sharing its norm; "
        "houlsby: behind the attention and the feed-forward layer",
        ("block", "pfeiffer", "houlsby"),
    )


@method
class Adapter(Method):
    """A bottleneck in every block."""

    name = "adapter"
    summary = "a small two-layer network with a residual in every block"
    recipe = Recipe(piece_rate=1e-3, head_rate=1e-2)
    Options = AdapterOptions

    def install(self, encoder: Encoder) -> None:
        """Add one adapter per block, two with houlsby.

        Raises:
            ExportError: the backbone has no norm that pfeiffer could share.
        """
        if self.options.placement == "block":
            for index in self.blocks(encoder):
                encoder.pieces[index] = Residual(encoder.hidden, self.options.width)
        else:
            for block in self.inside(encoder):
                self._enter(block, encoder)
        for module in encoder.modules():
            if isinstance(module, Bottleneck):
                module.requires_grad_()

    def _enter(self, block: Any, encoder: Encoder) -> None:
        hidden, width = encoder.hidden, self.options.width
        if self.options.placement == "houlsby":
            block.attention.output = Residual(hidden, width, block.attention.output)
            block.feed_forward = Residual(hidden, width, block.feed_forward)
        elif block.norm_first:
            raise ExportError(
                "--method-option placement=pfeiffer: shares the norm behind the feed-forward "
                f"layer, but '{encoder.architecture}' has its norms before; use block or houlsby"
            )
        else:
            block.feed_forward_norm = AdapterNorm(block.feed_forward_norm, hidden, width)
