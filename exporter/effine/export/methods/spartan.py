"""SPARTAN: sparse hierarchical memory behind every block. 2211.16634, section 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        weights = self.shares(x)
        match = F.linear(x, self.keys.view(-1, hidden)) * (1.0 / self.temperature)
        within = torch.softmax(match.view(-1, children), dim=-1).view(-1, parents * children)
        return x + torch.mm(within * F.linear(weights, self.spread), self.values.view(-1, hidden))

    def shares(self, x: Tensor) -> Tensor:
        """The weights a [N, P] of the parents for each row of x [N, d]."""
        scores = F.linear(x, self.parents)
        return torch.softmax(scores + (self.kept(scores.detach()) - 1.0) * -MASKED, dim=-1)

    def load(self, x: Tensor, counted: Tensor) -> Tensor:
        """The mean over parents of their squared mean weights, a scalar; 1/P^2 at the least.

        Args:
            x: rows [B*S, d].
            counted: 1 for the tokens over which weights are averaged, else 0, [B, S]. If there
                are none, the load is 0.
        """
        each = (counted / counted.sum().clamp(min=1.0)).view(1, 1, -1)
        means = torch.bmm(each, self.shares(x).unsqueeze(0))
        return (means * means).sum() * (1.0 / len(self.parents))

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
    load_balance: float = option(0.0, "weight of a loss that drives tokens to all parents alike")


@method
class Spartan(Method):
    """A memory behind every block, and the LayerNorms from there on."""

    name = "spartan"
    summary = "a sparse two-level memory behind every block, plus the LayerNorms"
    notes = (
        "from the authors' scripts: the defaults of all options, and the recipe --batch 16 "
        "--seq 128 --weight-decay 0 at export, --piece-rate 1e-3 --head-rate 1e-3 --epochs 3 in "
        "training, also for their few-shot runs, which take the first 200 examples. The default "
        "recipe is effine's own"
    )
    recipe = Recipe(piece_rate=2e-3, head_rate=1e-2)
    Options = SpartanOptions

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        super().__init__(options, first_layer)
        self._visited: list[tuple[Memory, Tensor, Tensor]] = []
        if options.load_balance < 0:
            raise ExportError("--method-option load_balance: can't be less than 0")

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

    @property
    def needs_whole_batch(self) -> bool:
        """With the load-balance loss, which squares means over a batch."""
        return self.options.load_balance > 0

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Vectors [B, d], or [B, S, d] without pooling; `penalty` needs what memories get."""
        self._visited = []
        visit = self._visit if self.options.load_balance else None
        return encoder.finish(features["hidden"].flatten(0, 1), mask, self.cut, visit)

    def penalty(self, encoder: Encoder, mask: Tensor, weights: Tensor) -> Tensor | None:
        """The load-balance loss: the mean of the memories' loads over the batch's real tokens."""
        if not self.options.load_balance:
            return None
        real = (weights * _STEEP).clamp(0.0, 1.0).unsqueeze(1)
        loads: Any = 0.0
        for memory, rows, valid in self._visited:
            loads = loads + memory.load(rows, valid.to(torch.float32) * real)
        return loads * (self.options.load_balance / len(self._visited))

    def _visit(self, module: nn.Module, rows: Tensor, mask: Tensor) -> None:
        if isinstance(module, Memory):
            self._visited.append((module, rows, mask))
