"""BitFit: train the biases alone. Ben Zaken et al., 2106.10199."""

from __future__ import annotations

from torch import nn

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.methods import Method, Recipe, method


@method
class BitFit(Method):
    """All tensors named bias, that of the embedding norm included."""

    name = "bitfit"
    summary = "the biases of all linear layers and norms"
    recipe = Recipe(piece_rate=2e-3, head_rate=1e-2)

    def install(self, encoder: Encoder) -> None:
        """Mark the biases; no module is added.

        Raises:
            ExportError: the backbone has none.
        """
        modules: list[nn.Module] = list(self.inside(encoder))
        if self.trains_embedding_norm():
            modules.append(encoder.embedding_norm)
        biases = [
            parameter
            for module in modules
            for name, parameter in module.named_parameters()
            if name.split(".")[-1] == "bias"
        ]
        if not biases:
            raise ExportError(
                f"--method bitfit: '{encoder.architecture}' has no biases to train; "
                "use adapter, lora or spartan"
            )
        for parameter in biases:
            parameter.requires_grad_()
