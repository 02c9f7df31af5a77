"""SPARTAN: sparse hierarchical memory behind every block. 2211.16634, section 3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effine.export.encoder import MASKED, Encoder
from effine.export.errors import ExportError
from effine.export.methods import Method, Options, Recipe, method, option, train_norms

_STEEP = 1e38


class Memory(nn.Module):
    """P parent keys, each with C children; a token reads the children of its top k parents.

    This is the masked dense form: all children are computed and those of parents
    outside the top k get weight zero. The top k is found by pairwise comparison,
    with linear layers and clamps alone, because sorting would split the delegate.
    A parent is kept while fewer than k others score strictly higher, so a tie at
    the k-th place keeps more than k.

    Parameters: parents [P, d], keys [P, C, d], values [P, C, d].
    """

    pairs: Tensor
    tally: Tensor
    spread: Tensor

    def __init__(self, hidden: int, parents: int, children: int, top: int, temperature: float):
        super().__init__()
        self.top = float(top)
        self.temperature = temperature
        self.parents = nn.Parameter(torch.empty(parents, hidden))
        self.keys = nn.Parameter(torch.empty(parents, children, hidden))
        self.values = nn.Parameter(torch.empty(parents, children, hidden))
        for tensor in (self.parents, self.keys, self.values):
            nn.init.normal_(tensor, std=0.02)
        one = torch.eye(parents)
        rival, own = one.repeat(parents, 1), one.repeat_interleave(parents, 0)
        self.register_buffer("pairs", rival - own, persistent=False)
        self.register_buffer("tally", own.T.contiguous(), persistent=False)
        self.register_buffer("spread", one.repeat_interleave(children, 0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the memory holds for each row of x [N, d]; returns [N, d]."""
        parents, children, hidden = self.keys.shape
        scores = F.linear(x, self.parents)
        weights = torch.softmax(scores + (self.kept(scores.detach()) - 1.0) * -MASKED, dim=-1)
        match = F.linear(x, self.keys.view(-1, hidden)) * (1.0 / self.temperature)
        within = torch.softmax(match.view(-1, children), dim=-1).view(-1, parents * children)
        return x + torch.mm(within * F.linear(weights, self.spread), self.values.view(-1, hidden))

    def kept(self, scores: Tensor) -> Tensor:
        """1 for the top k of scores [N, P] in each row, else 0."""
        ahead = (F.linear(scores, self.pairs) * _STEEP).clamp(0.0, 1.0)
        return (self.top - F.linear(ahead, self.tally)).clamp(0.0, 1.0)

    def tie_margin(self, x: Tensor) -> Tensor:
        """How far each row of x [N, d] is from a tie at the k-th place, [N]."""
        ranked = F.linear(x, self.parents).sort(dim=-1, descending=True).values
        top = int(self.top)
        if top == ranked.shape[1]:
            return torch.full(ranked.shape[:1], torch.inf)
        return ranked[:, top - 1] - ranked[:, top]


@dataclass(frozen=True)
class SpartanOptions(Options):
    """Settings of SPARTAN; the defaults are those of the authors' scripts."""

    parents: int = option(16, "parent keys P per memory")
    children: int = option(3, "children C of each parent")
    top: int = option(8, "parents k that a token attends to")
    temperature: float = option(1.6, "temperature T of the softmax over children")
    norms: bool = option(True, "train the LayerNorms too, as the paper does")


@method
class Spartan(Method):
    """A memory behind every block, and the LayerNorms from there on."""

    name = "spartan"
    summary = "a sparse two-level memory behind every block, plus the LayerNorms"
    recipe = Recipe(piece_rate=2e-3, head_rate=1e-2)
    Options = SpartanOptions

    def install(self, encoder: Encoder) -> None:
        """Add one memory per block."""
        settings = self.options
        if not 1 <= settings.top <= settings.parents:
            raise ExportError(
                f"--method-option top={settings.top}: must be from 1 to parents={settings.parents}"
            )
        for index in self.blocks(encoder):
            encoder.pieces[index] = Memory(
                encoder.hidden,
                settings.parents,
                settings.children,
                settings.top,
                settings.temperature,
            ).requires_grad_()
        if settings.norms:
            train_norms(self.inside(encoder))
            if self.trains_embedding_norm():
                train_norms([encoder.embedding_norm])
