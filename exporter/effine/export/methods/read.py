"""READ: a recurrent network over depth corrects the last state. 2305.15348, form A."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effine.export.encoder import ALL_TOKENS, ONE_STEP, Encoder
from effine.export.errors import ExportError
from effine.export.methods import Method, Options, Recipe, method, option

_GATES = ("r", "z", "n")


class DepthGRU(nn.Module):
    """One GRU that walks over the layers' states of each token.

    The norm's weight g is folded into the input matrices, so no gradient with
    respect to the normalised states is ever formed. Wo and its bias start as
    zero: an untrained READ is the backbone.

    Parameters: norm [d]; input weights [R, d] and hidden weights [R, R] with biases
    [R] for each gate (r reset, z update, n new); output [d, R] with bias [d].
    """

    def __init__(self, hidden: int, width: int, scale: float, aggregate: str) -> None:
        super().__init__()
        self.scale = scale
        self.aggregate = aggregate
        self.norm = nn.Parameter(torch.ones(hidden))
        self.input: Any = nn.ModuleDict({gate: nn.Linear(hidden, width) for gate in _GATES})
        self.hidden: Any = nn.ModuleDict({gate: nn.Linear(width, width) for gate in _GATES})
        self.output = nn.Linear(width, hidden)
        for tensor in (*self.input.parameters(), *self.hidden.parameters()):
            nn.init.uniform_(tensor, -(width**-0.5), width**-0.5)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, states: list[Tensor]) -> Tensor:
        """Correct the last of the states phi_1..phi_L, each [N, d]; returns [N, d]."""
        return states[-1] + self.correction(states)

    def correction(self, states: list[Tensor]) -> Tensor:
        """What the walk over the states adds to the last one, [N, d]."""
        weights = {gate: self.input[gate].weight * self.norm for gate in _GATES}
        walked: list[Tensor] = []
        for state in states:
            x = state * torch.rsqrt(state.square().mean(dim=-1, keepdim=True) + 1e-6)
            drive = {g: F.linear(x, weights[g], self.input[g].bias) for g in _GATES}
            walked.append(self._cell(drive, walked[-1] if walked else None))
        summary = walked[-1]
        if self.aggregate == "mean":
            summary = _sum(walked) * (1.0 / len(walked))
        return self.output(summary) * self.scale

    def _cell(self, drive: Mapping[str, Tensor], h: Tensor | None) -> Tensor:
        """The GRU equations; h = None stands for zeros."""
        own = {
            gate: self.hidden[gate].bias if h is None else self.hidden[gate](h) for gate in _GATES
        }
        reset = torch.sigmoid(drive["r"] + own["r"])
        update = torch.sigmoid(drive["z"] + own["z"])
        new = torch.tanh(drive["n"] + reset * own["n"])
        return new - update * new if h is None else new + update * (h - new)


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


@dataclass(frozen=True)
class ReadOptions(Options):
    """Settings of READ; the defaults are those of the authors' code."""

    width: int = option(256, "width R of the recurrent network")
    scale: float = option(1.0, "factor s of the correction")
    aggregate: str = option("mean", "mean of all depths, or the last one", ("mean", "last"))
    tokens: str = option(
        "auto",
        "all tokens, or the first (the same result with pooling cls); auto: by the pooling",
        ("auto", "all", "first"),
    )


@method
class Read(Method):
    """A side network: no gradient enters the backbone.

    With a decoder there are two, over the encoder's states and over those of the decoder's
    one step. The frozen decoder reads the encoder's states as they are, uncorrected, so
    that all states are features; in the authors' code it reads the corrected ones, and
    gradients cross it. Here the mean of the encoder's corrections joins the decoder's
    final state instead.
    """

    name = "read"
    summary = "a small GRU over the layers' states; the backbone runs once per sample"
    recipe = Recipe(piece_rate=5e-4, head_rate=1e-2)
    Options = ReadOptions
    layered = False

    def install(self, encoder: Encoder) -> None:
        """Put a network beside the encoder, and one beside the decoder that pools."""
        if self.options.tokens == "first" and encoder.pooling != "cls":
            remedy = (
                "the task needs all tokens"
                if encoder.pooling == ALL_TOKENS
                else "needs --pooling cls"
            )
            raise ExportError(f"--method-option tokens=first: {remedy}")
        settings = self.options
        for owner in (encoder, encoder.decoder) if encoder.pooling == ONE_STEP else (encoder,):
            owner.side = DepthGRU(
                encoder.hidden, settings.width, settings.scale, settings.aggregate
            ).requires_grad_()

    def features(self, encoder: Encoder, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One state per layer: [B, S, d], or [B, d] where only the first token counts.

        Those of a decoder are [B, d].
        """
        mask = tokens["attention_mask"]
        outputs = encoder.run(encoder.embed(tokens), mask, 0, encoder.stages)[3::2]
        states = [rows.view(*mask.shape, -1) for rows in outputs]
        if self.first_only(encoder):
            states = [state[:, 0] for state in states]
        named = {f"state_{index}": state for index, state in enumerate(states, 1)}
        if encoder.pooling != ONE_STEP:
            return named
        steps = encoder.steps(outputs[-1], mask)
        return named | {f"step_{index}": state for index, state in enumerate(steps, 1)}

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Pool the corrected last state, or correct the decoder's."""
        states = [
            state.reshape(-1, encoder.hidden)
            for name, state in features.items()
            if name.startswith("state_")
        ]
        if encoder.pooling == ONE_STEP:
            steps = [state for name, state in features.items() if name.startswith("step_")]
            joined = encoder.mean(encoder.side.correction(states), mask)
            return encoder.decoder.side(steps) + joined
        corrected = encoder.side(states)
        return corrected if self.first_only(encoder) else encoder.pool(corrected, mask)

    def first_only(self, encoder: Encoder) -> bool:
        """Whether the features hold the first token alone."""
        if self.options.tokens == "auto":
            return encoder.pooling == "cls"
        return bool(self.options.tokens == "first")
