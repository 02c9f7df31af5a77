"""Token gates: layers that work on fewer tokens, a ladder of counts or learned ones. 2102.09727.

Between attention and feed-forward layer the tokens of a text are ranked by the attention that
they receive. In the phase `gates` the token at each rank is multiplied by a gate that is learned
for the rank; in the phases `keepNN` those of the lowest ranks are dropped, from this layer and
all above, in the forward and the backward pass. Any method whose pieces are inside the layers
trains along. What of this the paper confirms and what is reconstructed is in `Gates.notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effine.export.encoder import ALL_TOKENS, Encoder
from effine.export.errors import ExportError
from effine.export.layers import Attention
from effine.export.methods import (
    Method,
    Options,
    Recipe,
    RowSets,
    known_methods,
    make_method,
    method,
    option,
)
from effine.runtime.phases import TRAIN, Transition
from effine.runtime.policies.gates import GATES, PREFIX, SUFFIX, count, rungs

_STEEP = 1e38
_FAR = 1e9
_START = 0.9


class TokenGate(nn.Module):
    """Ranks a layer's tokens, then weighs them by rank or drops those of the lowest ranks.

    A token's significance is the attention that it receives from the other tokens, averaged over
    the heads, without gradient. The first token always comes first and padding last; of equal
    tokens the one further ahead wins. Ranks are found by pairwise comparison, and tokens are
    picked by products with ones and zeros, because sorting and gathering would split the delegate.

    Args:
        heads: of the attention.
        longest: the longest sequence.
        learned: whether there is a gate for each rank, [longest] in 0..1, which also scales
            the tokens that are kept once the others are dropped.
        priority: replaces significance by an order of positions, [longest].
    """

    priority: Tensor | None

    def __init__(self, heads: int, longest: int, learned: bool, priority: Tensor | None) -> None:
        super().__init__()
        self.heads = heads
        self.share: float | None = None
        self.values = nn.Parameter(torch.full((longest,), _START)) if learned else None
        self.register_buffer("priority", priority, persistent=False)

    def forward(
        self, rows: Tensor, weights: Tensor, mask: Tensor, whole: int
    ) -> tuple[Tensor, Tensor]:
        """Weigh or drop tokens.

        Args:
            rows: the tokens [B*S, d] behind attention.
            weights: the probabilities [B*H, S, S] of query and key.
            mask: [B, S], 1 for valid tokens.
            whole: how many tokens a text had before any were dropped.

        Returns:
            Rows [B*n, d] in the order of their ranks and their mask [B, n]; without dropping
            all rows and the mask as they were.
        """
        batch, seq = mask.shape
        if self.share is None:
            return (rows, mask) if self.values is None else (self._weigh(rows, weights, mask), mask)
        left = min(seq, count(self.share, whole))
        if left == seq and self.values is None:
            return rows, mask
        places = torch.arange(left, dtype=torch.float32).unsqueeze(1)
        chosen = _equal(self.ranks(weights, mask).unsqueeze(1), places)
        kept = torch.bmm(chosen, rows.view(batch, seq, -1))
        if self.values is not None:
            kept = kept * self.values[:left].unsqueeze(1)
        valid = torch.bmm(chosen, mask.to(torch.float32).unsqueeze(2))
        return kept.flatten(0, 1), valid.squeeze(2)

    def _weigh(self, rows: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        assert self.values is not None
        seq = mask.shape[1]
        places = torch.arange(seq, dtype=torch.float32)
        at = _equal(self.ranks(weights, mask).unsqueeze(2), places)
        return rows * F.linear(at.view(-1, seq), self.values[:seq].unsqueeze(0))

    def ranks(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The rank of each token from 0 on, [B, S]."""
        score = self.scores(weights, mask)
        places = torch.arange(score.shape[1])
        earlier = (places.unsqueeze(0) < places.unsqueeze(1)).to(torch.float32)
        sign = ((score.unsqueeze(1) - score.unsqueeze(2)) * _STEEP).clamp(-1.0, 1.0)
        return (sign * 2.0 + earlier).clamp(0.0, 1.0).sum(-1)

    def scores(self, weights: Tensor, mask: Tensor) -> Tensor:
        """What tokens are ranked by, [B, S]."""
        batch, seq = mask.shape
        valid = mask.to(torch.float32)
        places = torch.arange(seq)
        if self.priority is None:
            others = (places.unsqueeze(0) != places.unsqueeze(1)).to(torch.float32)
            received = (weights.detach() * others).view(batch, self.heads * seq, seq)
            queries = valid.unsqueeze(1).expand(-1, self.heads, -1).reshape(batch, 1, -1)
            score = torch.bmm(queries, received).squeeze(1) * (1.0 / self.heads)
        else:
            score = self.priority[:seq].unsqueeze(0)
        return score + (places == 0).to(torch.float32) * _FAR + (valid - 1.0) * _FAR

    def tie_margin(self, rows: Tensor, weights: Tensor, mask: Tensor, whole: int) -> Tensor:
        """How far ranks are from changing places, [B, ...]; only where that changes anything."""
        ranked = self.scores(weights, mask).sort(dim=-1, descending=True).values
        valid = torch.arange(1, mask.shape[1]) < mask.sum(1, keepdim=True)
        gaps = torch.where(valid, ranked[:, :-1] - ranked[:, 1:], torch.inf)
        if self.values is None:
            left = min(mask.shape[1], whole if self.share is None else count(self.share, whole))
            return gaps[:, left - 1 : left]
        return gaps


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where two whole numbers are equal, else 0."""
    return (1.0 - (a - b).abs()).clamp(0.0, 1.0)


@dataclass(frozen=True)
class GatesOptions(Options):
    """Settings of the token gates."""

    pieces: str = option(
        "full", "the method that trains along, with its options: 'lora rank=4 targets=query,key'"
    )
    keep: str = option(
        "1.0,0.75,0.5,0.35",
        "shares of the tokens that layers work on, one phase for each: a mean over the layers, "
        "or 0.9:0.7:0.6, one for each layer",
    )
    learning: float = option(
        50.0, "percent of the updates in which gates are learned; 0: no gates, 100: nothing else"
    )
    order: str = option(
        "attention",
        "which tokens stay: those that receive most attention, random positions, or the first",
        ("attention", "random", "first"),
    )
    bimodal: float = option(1e-3, "weight of the sum of g (1 - g), which drives gates to 0 or 1")
    sparsity: float = option(1e-3, "weight of the sum of g times the number of its layer")


@method
class Gates(Method):
    """Phase `gates`, then a phase `keepNN` for each rung; a single rung without gates is plain."""

    name = "gates"
    summary = "layers drop the tokens that receive least attention; with the pieces of any method"
    notes = (
        "confirmed by the paper (its abstract and first page are what could be read): masks over "
        "the word vectors of each layer, tokens sorted by importance, a bi-modal term beside one "
        "like L1, one stage of training. Reconstructed, after PoWER-BERT (2001.08950): "
        "importance as attention received, where the gates stand, weights of the terms, the "
        "threshold 0.5. effine's own: counts that fall geometrically, and gates that go on "
        "scaling the kept tokens"
    )
    recipe = Recipe(piece_rate=1e-4, head_rate=1e-2, epochs=4)
    Options = GatesOptions

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        super().__init__(options, first_layer)
        self._pieces = _pieces(options.pieces, first_layer)
        self.recipe = self._pieces.recipe
        self.takes_tokens = self._pieces.takes_tokens
        self._learns = False
        if not 0 <= options.learning <= 100:
            raise ExportError("--method-option learning: must be from 0 to 100")
        if options.bimodal < 0 or options.sparsity < 0:
            raise ExportError("--method-option bimodal, sparsity: can't be less than 0")

    @property
    def freezes_layers(self) -> bool:
        """As the pieces do."""
        return self._pieces.freezes_layers

    def install(self, encoder: Encoder) -> None:
        """Install the pieces, and a gate in every layer that isn't below the cut.

        Raises:
            ExportError: the task needs all tokens, or the layers know them by their positions.
        """
        if encoder.pooling == ALL_TOKENS:
            raise ExportError("--method gates: drops tokens, but the task needs all of them")
        attention: Any = [block.attention for block in encoder.layers]
        if not all(isinstance(a, Attention) for a in attention):
            raise ExportError(
                f"--method gates: the layers of '{encoder.architecture}' don't report attention"
            )
        if any(a.rotation is not None or a.distance is not None for a in attention):
            raise ExportError(
                f"--method gates: the layers of '{encoder.architecture}' tell tokens by their "
                "positions, which dropping some would change"
            )
        self._pieces.install(encoder)
        self.place_cut(encoder)
        for layer in range(self.cut // 2, encoder.depth):
            priority = _priority(self.options.order, layer, encoder.max_positions)
            learned = self.options.learning > 0
            gate = TokenGate(encoder.heads, encoder.max_positions, learned, priority)
            encoder.gates[str(layer)] = gate.requires_grad_()
        if not encoder.gates:
            raise ExportError("--first-layer: leaves no layer that could drop tokens; lower it")

    def place_cut(self, encoder: Encoder) -> None:
        """Where the pieces have it."""
        self._pieces.place_cut(encoder)
        self.cut = self._pieces.cut

    def features(self, encoder: Encoder, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the pieces; no layer below the cut drops anything."""
        return self._pieces.features(encoder, tokens)

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Sentence vectors [B, d] from the tokens that are left."""
        return self._pieces.represent(encoder, features, mask)

    def phases(self, encoder: Encoder) -> tuple[str, ...]:
        """Gates, then the rungs; or a single rung."""
        ladder = () if self.options.learning == 100 else tuple(self._rungs(encoder))
        if self.options.learning:
            return (GATES, *ladder)
        return ladder if len(ladder) > 1 else (TRAIN,)

    def enter(self, encoder: Encoder, phase: str, rows: RowSets | None = None) -> None:
        """Weigh all tokens, or keep those of the rung."""
        self._learns = phase == GATES
        ladder = {} if self._learns else self._rungs(encoder)
        shares = ladder.get(phase) or next(iter(ladder.values()), None)
        for index, gate in enumerate(encoder.gates.values()):
            gate.requires_grad_(self._learns)
            gate.share = None if shares is None else shares[index]

    def transitions(self, encoder: Encoder) -> tuple[Transition, ...]:
        """From any phase to any other; the optimizer starts afresh."""
        phases = self.phases(encoder)
        stay = [Transition((GATES,), GATES, ())] if GATES in phases else []
        others = {target: tuple(p for p in phases if p != target) for target in phases}
        go = [Transition(sources, to, ("moment",)) for to, sources in others.items() if sources]
        return (*stay, *go)

    @property
    def needs_whole_batch(self) -> bool:
        """As the pieces do."""
        return self._pieces.needs_whole_batch

    def penalty(self, encoder: Encoder, mask: Tensor, weights: Tensor) -> Tensor | None:
        """The pieces' own, and the regulariser over all layers' gates up to the rank S."""
        total = self._pieces.penalty(encoder, mask, weights)
        if not self._learns:
            return total
        sums: Any = 0.0
        for layer, gate in encoder.gates.items():
            values = gate.values[: mask.shape[1]]
            slope = self.options.bimodal + self.options.sparsity * (int(layer) + 1)
            sums = sums + values * (slope - self.options.bimodal * values)
        return sums.sum() if total is None else total + sums.sum()

    def bounds(self, parameter: str) -> tuple[float, float] | None:
        """Gates stay from 0 to 1."""
        gate = parameter.startswith(PREFIX) and parameter.endswith(SUFFIX)
        return (0.0, 1.0) if gate else None

    def _rungs(self, encoder: Encoder) -> dict[str, tuple[float, ...]]:
        try:
            return rungs(self.options.keep, len(encoder.gates))
        except ValueError as error:
            raise ExportError(f"--method-option keep={self.options.keep}: {error}") from error


def _pieces(described: str, first_layer: int | None) -> Method:
    """The method that trains along, from its name and options."""
    name, *assignments = described.split() or [""]
    known = known_methods()
    fitting = [n for n, cls in known.items() if cls.layered and cls.phases is Method.phases]
    if name not in fitting:
        raise ExportError(f"--method-option pieces={name}: choose from {', '.join(fitting)}")
    settings = dict(part.partition("=")[::2] for part in assignments)
    return make_method(name, settings, first_layer)


def _priority(order: str, layer: int, longest: int) -> Tensor | None:
    """A fixed order of positions; the random one differs from layer to layer."""
    if order == "attention":
        return None
    if order == "first":
        return torch.linspace(1.0, 0.0, longest)
    return torch.rand(longest, generator=torch.Generator().manual_seed(layer))
