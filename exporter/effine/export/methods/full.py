"""Full tuning: everything above the embeddings trains, and the embeddings too if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from effine.export.capture import MASK
from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.methods import Method, Options, Recipe, method, option


class WholeLayers(Method):
    """What all methods share that tune whole layers, from `first_layer` on.

    Tables, also those of distances, count as embeddings.
    """

    recipe = Recipe(piece_rate=1e-4, head_rate=1e-2, epochs=4)

    @property
    def freezes_layers(self) -> bool:
        """Only those below `first_layer`."""
        return (self.first_layer or 1) > 1

    def install(self, encoder: Encoder) -> None:
        """Mark the layers; no module is added."""
        blocks: list[nn.Module] = list(self.inside(encoder))
        for module in [encoder.embedding_norm, *blocks] if self.trains_embedding_norm() else blocks:
            train(module)


@dataclass(frozen=True)
class FullOptions(Options):
    """Settings of full tuning."""

    embeddings: str = option(
        "frozen", "whether the tables of embeddings train too", ("frozen", "train")
    )


@method
class Full(WholeLayers):
    """All layers from `first_layer` on, and the embeddings if wanted."""

    name = "full"
    summary = "the whole encoder above the embeddings; the score to reach"
    Options = FullOptions

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        super().__init__(options, first_layer)
        self.takes_tokens = options.embeddings == "train"
        if self.takes_tokens and first_layer:
            raise ExportError("--first-layer: embeddings=train trains all layers; leave one out")

    def install(self, encoder: Encoder) -> None:
        """Mark the layers, and the tables if wanted."""
        super().install(encoder)
        if self.takes_tokens:
            encoder.embeddings.requires_grad_()
            for block in self.inside(encoder):
                block.requires_grad_()

    def place_cut(self, encoder: Encoder) -> None:
        """Below everything, if the embeddings train."""
        super().place_cut(encoder)
        if self.takes_tokens:
            self.cut = 0

    def features(self, encoder: Encoder, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Hidden states at the cut, or the token inputs if the embeddings train."""
        if self.takes_tokens:
            return {name: tokens[name] for name in encoder.token_inputs if name != MASK}
        return super().features(encoder, tokens)

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Sentence vectors [B, d]."""
        if self.takes_tokens:
            features = {"hidden": encoder.embeddings(features)}
        return super().represent(encoder, features, mask)


def train(module: nn.Module, wanted: bool = True) -> None:
    """Mark a module's parameters, but for tables."""
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(wanted and not isinstance(part, nn.Embedding))
