"""ExecuTorch's stock training: a joint forward and backward graph, and its SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from executorch.backends.xnnpack.partition.config import (
    ALL_PARTITIONER_CONFIGS,
    CloneDimOrderConfig,
)
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from torch.export import export
from torch.export.experimental import _export_forward_backward

from effine.export.bench.rivals.case import RATE, Case, Rival, Turn, check_losses, foreign, timed
from effine.export.bench.rivals.network import Positional

Partitioner = Callable[[], list[Any]]


def joint_program(case: Case, partitioner: Partitioner) -> bytes:
    """The stock joint program of the case's method: weights, forward and backward.

    Attention is written out, because sdpa's backward has no kernel.

    Raises:
        Unavailable: it can't be lowered.
    """
    module = Positional(case.network("eager"), case.batch.tokens)
    with foreign("lowering"):
        joint = _export_forward_backward(export(module, _arguments(case)))
        config = EdgeCompileConfig(_check_ir_validity=False)
        edge = to_edge_transform_and_lower(joint, partitioner=partitioner(), compile_config=config)
        return edge.to_executorch().buffer


def portable() -> list[Any]:
    """Nothing is delegated."""
    return []


def xnnpack() -> list[Any]:
    """XNNPACK with weights that may change, without which it takes no trained GEMM.

    Copies stay outside: delegates that merge them return their own inputs, which
    ExecuTorch 1.5 refuses to lower.
    """
    configs = [config for config in ALL_PARTITIONER_CONFIGS if config is not CloneDimOrderConfig]
    return [XnnpackPartitioner(configs=configs, force_non_static_weights_for_f32_linear=True)]


def _arguments(case: Case) -> tuple[torch.Tensor, ...]:
    tokens, labels = case.batch.tensors()
    return (*tokens.values(), labels)


def _joint(partitioner: Partitioner) -> Callable[[Case], AbstractContextManager[Turn]]:
    @contextmanager
    def start(case: Case) -> Iterator[Turn]:
        program = joint_program(case, partitioner)
        with foreign("TrainingModule"):
            step = _step(program, _arguments(case))
            losses = [step(), step()]
        network = case.network("eager")
        trained = [p for p in network.parameters() if p.requires_grad]
        check_losses(case, network, torch.optim.SGD(trained, RATE), losses)
        yield timed(step)

    return start


def _step(program: bytes, arguments: tuple[torch.Tensor, ...]) -> Callable[[], float]:
    from executorch.extension.training import (
        _load_for_executorch_for_training_from_buffer,
        get_sgd_optimizer,
    )

    module = _load_for_executorch_for_training_from_buffer(program)
    module.forward_backward("forward", arguments)
    optimizer = get_sgd_optimizer(module.named_parameters(), RATE)

    def step() -> float:
        (loss,) = module.forward_backward("forward", arguments)
        optimizer.step(module.named_gradients())
        return float(loss)

    return step


EXECUTORCH = Rival(
    "executorch", "ExecuTorch's joint graph, portable kernels, SGD", "method", _joint(portable)
)
EXECUTORCH_XNNPACK = Rival(
    "executorch-xnnpack", "ExecuTorch's joint graph on XNNPACK, SGD", "method", _joint(xnnpack)
)
