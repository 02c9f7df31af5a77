"""LoRA: low-rank updates of linear layers. Hu et al., 2106.09685."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.layers import Block
from effine.export.methods import Method, Options, Recipe, method, option

TARGETS = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.output",
    "up": "feed_forward.up",
    "gate": "feed_forward.gate",
    "down": "feed_forward.down",
}


class LoraLinear(nn.Module):
    """W x + b + (alpha / r) B A x, with A [r, i] and B [o, r] trained; B starts as zero."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, i] to [N, o]."""
        return self.base(x) + F.linear(F.linear(x, self.lora_A) * self.scale, self.lora_B)


@dataclass(frozen=True)
class LoraOptions(Options):
    """Settings of LoRA; the defaults are peft's."""

    rank: int = option(8, "rank r of the update")
    alpha: float = option(8.0, "the update is scaled by alpha / r")
    targets: str = option("query,value", f"comma-separated, from {', '.join(TARGETS)}")


@method
class Lora(Method):
    """Low-rank pairs beside the chosen linear layers of every block."""

    name = "lora"
    summary = "low-rank updates of the attention's linear layers; exports to PEFT"
    recipe = Recipe(piece_rate=2e-3, head_rate=1e-2)
    Options = LoraOptions

    def install(self, encoder: Encoder) -> None:
        """Wrap the target layers of every block.

        Raises:
            ExportError: a target isn't a layer of this backbone.
        """
        for block in self.inside(encoder):
            for path in self.target_paths(block):
                parent, _, leaf = path.rpartition(".")
                owner = block.get_submodule(parent)
                wrapped = LoraLinear(getattr(owner, leaf), self.options.rank, self.options.alpha)
                setattr(owner, leaf, wrapped)
        for name, parameter in encoder.named_parameters():
            if name.endswith(("lora_A", "lora_B")):
                parameter.requires_grad_()

    def target_paths(self, block: Block) -> list[str]:
        """Names of the wrapped layers inside a block."""
        inside = dict(block.named_modules())
        known = [name for name, path in TARGETS.items() if path in inside]
        names = [name.strip() for name in self.options.targets.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ExportError(
                f"--method-option targets={self.options.targets}: '{unknown[0]}' is not a layer; "
                f"choose from {', '.join(known)}"
            )
        return [TARGETS[name] for name in names]
