"""Head only: a linear layer on the pooled output of a wholly frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from effine.export.encoder import Encoder
from effine.export.methods import Method, Recipe, method


@method
class Head(Method):
    """Features are the pooled states; the train program holds no backbone."""

    name = "head"
    summary = "only the task head; the fastest and smallest, and the score to beat"
    recipe = Recipe(piece_rate=1e-2, head_rate=1e-2, epochs=20)
    layered = False

    def features(self, encoder: Encoder, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Final states, pooled to [B, d] or, where a task needs all tokens, [B, S, d]."""
        mask = tokens["attention_mask"]
        rows = encoder.run(encoder.embed(tokens), mask, 0, encoder.stages)[-1]
        return {"pooled": encoder.pool(rows, mask)}

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """The pooled states as they are."""
        return features["pooled"]
