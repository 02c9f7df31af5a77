"""One ExecuTorch program whose sequence length varies up to a bound, in place of one for each.

The passes that make effine's programs fast need the lengths as numbers, so this one goes
without the rewriting of reshapes and sums.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.runtime import Runtime
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, export
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from effine.export.bench.rivals.case import Batch, Case
from effine.export.bench.rivals.network import Positional
from effine.export.lowering.partition import partitioner
from effine.export.lowering.passes import (
    copy_permutes,
    drop_copies,
    fold_permutes,
    merge_common_subexpressions,
    products_to_linear,
)
from effine.export.optimizers import OPTIMIZERS

SHORTEST = 8
TRACED = 24
RATE = 1e-3
_PREFIX = "network."


def dynamic_program(case: Case) -> tuple[bytes, list[Tensor]]:
    """A training step, optimizer included, for every length up to the case's.

    Returns:
        The program: token inputs, labels, step [1], state -> loss, state'; and the first state.
    """
    network = case.network("eager")
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    settings = case.artifact.manifest.optimizer
    optimizer = OPTIMIZERS[settings.name](settings.weight_decay, settings.clip_norm)
    zeros = [torch.zeros_like(p) for _ in optimizer.moments for p in trained.values()]
    state = [p.detach().clone() for p in trained.values()] + zeros
    tokens, labels = _traced(case)
    longest = case.batch.tokens["input_ids"].shape[1]
    seq = Dim("seq", min=SHORTEST, max=longest)
    sizes: list[Any] = [{1: seq}] * len(tokens)
    module = Positional(network, case.batch.tokens)
    forward = export(module, (*tokens, labels), dynamic_shapes=((*sizes, None),)).module()
    forward.requires_grad_(False)
    step = _step_function(forward, list(trained), optimizer, len(tokens))
    fixed = [labels, torch.ones(1), *state]
    graph = _capture(step, tokens, fixed, longest)
    exported = export(graph, (*tokens, *fixed), dynamic_shapes=(*sizes, *[None] * len(fixed)))
    edge = to_edge_transform_and_lower(
        exported,
        partitioner=[partitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    planning = MemoryPlanningPass(alloc_graph_input=False)
    lowered = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    return lowered.buffer, state


def _traced(case: Case) -> tuple[list[Tensor], Tensor]:
    """Token inputs [B, 24], a length that no other dimension has, and labels [B]."""
    tokens, labels = case.batch.tensors()
    size = len(labels)
    return [torch.ones(size, TRACED, dtype=t.dtype) for t in tokens.values()], labels


def _step_function(
    forward: nn.Module, names: list[str], optimizer: Any, inputs: int
) -> Callable[..., list[Tensor]]:
    def step(*tensors: Tensor) -> list[Tensor]:
        batch, (count, *state) = tensors[: inputs + 1], tensors[inputs + 1 :]
        params = {
            name: value.detach().requires_grad_() for name, value in zip(names, state, strict=False)
        }
        with torch.enable_grad():
            leaves = {_PREFIX + name: value for name, value in params.items()}
            loss = functional_call(forward, leaves, batch)
            grads = torch.autograd.grad(loss, list(params.values()))
        rest = iter(state[len(names) :])
        moments = {moment: {name: next(rest) for name in names} for moment in optimizer.moments}
        rates = {name: torch.full_like(count, RATE) for name in names}
        found = dict(zip(names, grads, strict=True))
        values = {name: value.detach() for name, value in params.items()}
        values, moments = optimizer.step(values, found, moments, rates, count)
        updated = [moments[moment][name] for moment in optimizer.moments for name in names]
        return [loss.detach().view(1), *values.values(), *updated]

    return step


def _capture(
    step: Callable[..., list[Tensor]], tokens: list[Tensor], fixed: list[Tensor], longest: int
) -> fx.GraphModule:
    """Trace with a symbolic length: only the bounds are checked."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def fake(tensor: Tensor, dims: list[DimDynamic]) -> Tensor:
        context: Any = StatelessSymbolicContext(dynamic_sizes=dims)
        return mode.from_tensor(tensor, symbolic_context=context)

    symbolic = [fake(t, [DimDynamic.STATIC, DimDynamic.DUCK]) for t in tokens]
    static = [fake(t, [DimDynamic.STATIC] * t.dim()) for t in fixed]
    for tensor in symbolic:
        torch._check(tensor.shape[1] >= SHORTEST)
        torch._check(tensor.shape[1] <= longest)
    with mode:
        graph = make_fx(step, core_aten_decompositions())(*symbolic, *static)
    for rewrite in (
        merge_common_subexpressions,
        drop_copies,
        copy_permutes,
        fold_permutes,
        products_to_linear,
        merge_common_subexpressions,
    ):
        rewrite(graph)
        graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class DynamicStep:
    """Training steps of a dynamic program, from a file.

    Args:
        state: what the first step starts from.
    """

    def __init__(self, path: Path, state: list[Tensor]) -> None:
        self._method: Any = Runtime.get().load_program(path).load_method("forward")
        self._state = state
        self._count = 0

    def __call__(self, batch: Batch) -> float:
        """The loss of one more step, on a batch of any length within the bounds."""
        self._count += 1
        tokens, labels = batch.tensors()
        count = torch.full((1,), float(self._count))
        loss, *self._state = self._method.execute((*tokens.values(), labels, count, *self._state))
        return float(loss)
