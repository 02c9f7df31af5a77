"""Work that torch and ExecuTorch do on every graph and these graphs don't need.

The patches fit the pinned versions and hold only inside `shortcuts()`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from executorch.backends.xnnpack import xnnpack_preprocess
from executorch.backends.xnnpack._passes import XNNPACKPassManager
from executorch.backends.xnnpack._passes.decompose_cat import DecomposeConcatenate
from executorch.backends.xnnpack._passes.fuse_activation_pass import FuseActivationPass
from executorch.backends.xnnpack._passes.remove_redundant_copy_pass import RemoveRedundantCopyPass
from executorch.exir._serialize import _dataclass
from executorch.exir.backend.canonical_partitioners.group_partitioner import GroupBasedPartitioner
from executorch.exir.dialects._ops import ops as exir_ops
from executorch.exir.pass_base import ExportPass, map_args
from executorch.exir.passes import LegalizePortableDimOrderPass
from executorch.exir.passes.dim_order_ops_registry import DimOrderOpsMap, MemoryFormatOpsMap
from executorch.exir.passes.memory_format_ops_pass import DimOrderOpsRevertPass, MemoryFormatOpsPass
from executorch.exir.passes.normalize_transpose_pass import NormalizeTransposePass
from executorch.exir.passes.remove_mixed_type_operators import RemoveMixedTypeOperators
from executorch.exir.passes.replace_aten_with_edge_pass import OpReplacePass
from executorch.exir.passes.replace_broken_ops_with_function_ops_pass import (
    ReplaceBrokenOpsWithFunctionalOpsPass,
)
from executorch.exir.passes.scalar_to_tensor_pass import ScalarToTensorPass
from executorch.exir.passes.sym_to_tensor_pass import SymToTensorPass
from torch import fx
from torch._export.passes.replace_view_ops_with_view_copy_ops_pass import (
    ReplaceViewOpsWithViewCopyOpsPass,
    get_view_copy_of_view_op,
)
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature
from torch.fx.graph import _PyTreeCodeGen
from torch.fx.passes.infra.pass_base import PassBase, PassResult
from torch.fx.passes.utils.fuser_utils import validate_partition

from effine.export.lowering.graph import constant

_PASSES = [DimOrderOpsRevertPass, FuseActivationPass, DecomposeConcatenate, RemoveRedundantCopyPass]


@contextmanager
def shortcuts() -> Iterator[None]:
    """Inside, lowering skips what doesn't change captured graphs."""
    with ExitStack() as stack:
        for patch in (
            *(_shared_histories, _needed_passes, _passes_with_work),
            *(_code_on_demand, _decomposed_once, _types_once, _signatures_once),
            *(_no_stack_traces, _merged_by_sets),
        ):
            stack.enter_context(patch())
        yield


@contextmanager
def _shared_histories() -> Iterator[None]:
    """Let torch.fx share each node's history instead of copying it at every pass.

    The histories grow with each pass, and copying them is a third of the lowering time.
    """
    shallow = SimpleNamespace(copy=copy.copy, deepcopy=lambda history: history)
    with mock.patch.object(torch.fx.traceback, "copy", shallow):
        yield


@contextmanager
def _needed_passes() -> Iterator[None]:
    """Run only those of XNNPACK's passes that can change these graphs.

    The others look for convolutions, batch norms, attention modules and the like, and
    retracing the graph for each of them is half of the lowering time.
    """

    def manager(program: ExportedProgram, passes: object) -> XNNPACKPassManager:
        return XNNPACKPassManager(program, passes=_PASSES)

    with mock.patch.object(xnnpack_preprocess, "XNNPACKPassManager", manager):
        yield


@contextmanager
def _passes_with_work() -> Iterator[None]:
    """Skip a pass if the graph has none of the operators that it changes; do others faster.

    Each pass would retrace the graph all the same, which takes most of the lowering time.
    """
    run = PassBase.__call__

    def call(self: PassBase, module: fx.GraphModule) -> PassResult | None:
        instead = _INSTEAD.get(type(self))
        if instead is not None:
            return instead(module)
        changes = _CHANGES.get(type(self))
        calls = (node for node in module.graph.nodes if node.op == "call_function")
        if changes and not any(map(changes, calls)):
            return PassResult(module, False)
        return run(self, module)

    with mock.patch.object(PassBase, "__call__", call):
        yield


class _ToEdge(OpReplacePass, MemoryFormatOpsPass):
    """Views become copies, operators those of the edge dialect, and memory formats dim orders."""

    def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
        copying = get_view_copy_of_view_op(op._schema) if hasattr(op, "_schema") else None
        return super().call_operator(copying or op, args, kwargs, meta)


def _scalars_to_tensors(module: fx.GraphModule) -> PassResult:
    """Numbers where operators take tensors become constants of the module, in place."""
    numbers = 0

    def tensor(value: Any, argument: Any) -> Any:
        nonlocal numbers
        if not isinstance(value, (bool, int, float)):
            return value
        if not isinstance(argument.type, torch.TensorType):
            return value
        numbers += 1
        return constant(module, f"_number_{numbers}", torch.tensor(value))

    for node in module.graph.nodes:
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            with module.graph.inserting_before(node):
                node.args, node.kwargs = map_args(node.target, tensor, node.args, node.kwargs)
    return PassResult(module, numbers > 0)


def _unchanged(module: fx.GraphModule) -> PassResult:
    """What a pass that changes nothing returns: a module with only what the graph uses."""
    return PassResult(fx.GraphModule(module, module.graph), True)


@contextmanager
def _code_on_demand() -> Iterator[None]:
    """Generate a graph's Python code only if it is called: passes interpret the nodes."""
    generate = fx.GraphModule.recompile

    def recompile(module: fx.GraphModule) -> None:
        if isinstance(module.graph._codegen, _PyTreeCodeGen):
            module._in_spec = module.graph._codegen.pytree_info.in_spec
            module._out_spec = module.graph._codegen.pytree_info.out_spec

        def forward(self: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
            generate(self)
            return self.forward(*args, **kwargs)

        module._code = ""
        type(module).forward = forward

    with mock.patch.object(fx.GraphModule, "recompile", recompile):
        yield


@contextmanager
def _decomposed_once() -> Iterator[None]:
    """Captured graphs are core ATen already; three more decompositions would find nothing."""
    with mock.patch.object(
        ExportedProgram, "run_decompositions", lambda program, *_, **__: program
    ):
        yield


@contextmanager
def _types_once() -> Iterator[None]:
    """Look the types of a data class's fields up once, not for every object written."""
    hints = functools.cache(_dataclass.get_type_hints)
    with mock.patch.object(_dataclass, "get_type_hints", hints):
        yield


@contextmanager
def _signatures_once() -> Iterator[None]:
    """Derive what a signature says of inputs once for its entries, not for each node asked for."""
    known: dict[tuple[str, tuple[int, ...]], tuple[list[Any], Any]] = {}

    def remembering(name: str, entries: str) -> property:
        derive = getattr(ExportGraphSignature, name).fget

        def derived(signature: ExportGraphSignature) -> Any:
            specs = getattr(signature, entries)
            key = name, tuple(map(id, specs))
            if key not in known:
                # Entries are kept, so that no other one gets their ids.
                known[key] = list(specs), derive(signature)
            return known[key][1]

        return property(derived)

    with ExitStack() as stack:
        for name, entries in _DERIVED.items():
            patch = mock.patch.object(ExportGraphSignature, name, remembering(name, entries))
            stack.enter_context(patch)
        yield


@contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Nodes don't say which line of Python made them: it is one of this package, or of torch."""
    none = SimpleNamespace(extract=lambda: SimpleNamespace(summary=list))
    with mock.patch.object(torch.fx.proxy, "CapturedTraceback", none):
        yield


@contextmanager
def _merged_by_sets() -> Iterator[None]:
    """Look for a cycle between two partitions by intersecting sets, not node by node."""

    def can_merge(self: Any, first: int, second: int, partitions: Any) -> bool:
        nodes = {*partitions[first].nodes, *partitions[second].nodes}
        users = {user for node in nodes for user in node.users} - nodes
        below = self.dependency_viewer.downstreams_of
        apart = all(nodes.isdisjoint(below(user)) for user in users)
        return apart and validate_partition(list(nodes))

    with mock.patch.object(GroupBasedPartitioner, "_can_merge_partitions", can_merge):
        yield


def _mixes_types(node: fx.Node) -> bool:
    if node.target not in _PROMOTING:
        return False
    values = [given.meta.get("val") for given in node.all_input_nodes]
    return len({getattr(value, "dtype", None) for value in values}) > 1


def _sums_transposed(node: fx.Node) -> bool:
    if node.target not in LegalizePortableDimOrderPass._target_ops:
        return False
    value = node.all_input_nodes[0].meta["val"]
    return tuple(value.dim_order()) != tuple(range(value.dim()))


_PROMOTING = {
    *(torch.ops.aten.add.Tensor, torch.ops.aten.sub.Tensor, torch.ops.aten.mul.Tensor),
    *(torch.ops.aten.div.Tensor, torch.ops.aten.div.Tensor_mode),
    torch.ops.aten.minimum.default,
}
_DERIVED = {
    "inputs_to_parameters": "input_specs",
    "inputs_to_buffers": "input_specs",
    "inputs_to_lifted_tensor_constants": "input_specs",
    "buffers_to_mutate": "output_specs",
}
_INSTEAD: dict[type[PassBase], Callable[[fx.GraphModule], PassResult]] = {
    ExportPass: _unchanged,
    OpReplacePass: lambda module: _ToEdge()(module),
    ScalarToTensorPass: _scalars_to_tensors,
}
_CHANGES: dict[type[PassBase], Callable[[fx.Node], bool]] = {
    DecomposeConcatenate: lambda node: node.target is exir_ops.edge.aten.cat.default,
    DimOrderOpsRevertPass: lambda node: node.target in MemoryFormatOpsMap,
    FuseActivationPass: lambda node: node.target in FuseActivationPass.FUSEABLE_ACTIVATIONS,
    LegalizePortableDimOrderPass: _sums_transposed,
    MemoryFormatOpsPass: lambda node: node.target in DimOrderOpsMap,  # none after _ToEdge
    NormalizeTransposePass: lambda node: node.target is torch.ops.aten.t.default,
    RemoveMixedTypeOperators: _mixes_types,
    RemoveRedundantCopyPass: lambda node: node.target is exir_ops.edge.aten._to_copy.default,
    ReplaceBrokenOpsWithFunctionalOpsPass: lambda node: False,  # _ToEdge does
    ReplaceViewOpsWithViewCopyOpsPass: lambda node: False,  # _ToEdge does
    SymToTensorPass: lambda node: False,  # captured shapes are fixed
}
