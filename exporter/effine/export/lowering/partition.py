"""An XNNPACK partitioner that takes products whose weights are computed or trained.

The stock configurations want the weight of a product to be a constant, or treat all
weights as dynamic. Here a constant weight stays static (packed once when the program
is loaded) and any other is accepted as it is.
"""

from __future__ import annotations

from typing import Any

from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.config.gemm_configs import (
    AddmmConfig,
    GEMMConfig,
    LinearConfig,
    MMConfig,
)
from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.utils.utils import get_input_node, is_param_node
from torch import fx
from torch.export import ExportedProgram

_Deps = tuple[bool, list[fx.Node]]


class _AnyWeight(GEMMConfig):
    """Accepts a weight and a bias that are not constants."""

    def get_deps(self, node: fx.Node, ep: ExportedProgram) -> _Deps:
        """The generic path; the stock one searches for source modules, which is slow."""
        return GEMMConfig.get_deps(self, node, ep)

    def _get_weight_deps(self, node: fx.Node, ep: ExportedProgram, precision: Any) -> _Deps:
        if precision == ConfigPrecisionType.FP32:
            weight = get_input_node(node, self.weight_idx)
            return True, [weight] if is_param_node(ep, weight) else []
        return super()._get_weight_deps(node, ep, precision)

    def _get_bias_deps(self, node: fx.Node, ep: ExportedProgram, precision: Any) -> _Deps:
        if precision == ConfigPrecisionType.FP32 and self.bias_idx is not None:
            bias = node.args[self.bias_idx] if len(node.args) > self.bias_idx else None
            return True, [bias] if isinstance(bias, fx.Node) and is_param_node(ep, bias) else []
        return super()._get_bias_deps(node, ep, precision)


class _Linear(_AnyWeight, LinearConfig):
    """linear with any weight."""


class _MM(_AnyWeight, MMConfig):
    """mm with any weight."""


class _Addmm(_AnyWeight, AddmmConfig):
    """addmm with any weight."""


_REPLACED = {LinearConfig: _Linear, MMConfig: _MM, AddmmConfig: _Addmm}


def partitioner() -> XnnpackPartitioner:
    """The partitioner for training and inference programs."""
    return XnnpackPartitioner(
        configs=[_REPLACED.get(config, config) for config in ALL_PARTITIONER_CONFIGS]
    )
