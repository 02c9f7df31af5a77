"""ExecuTorch programs from captured graphs, delegated to XNNPACK."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    ExecutorchProgramManager,
    memory,
    to_edge_transform_and_lower,
)
from executorch.exir._serialize._cord import Cord
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir._serialize.data_serializer import DataPayload
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.passes.external_constants_pass import delegate_external_constants_pass_unlifted
from executorch.extension.flat_tensor.serialize.serialize import FlatTensorSerializer
from torch import Tensor, fx

from effine.export.capture import Captured, attribute
from effine.export.lowering.footprint import Footprint, footprint
from effine.export.lowering.partition import partitioner
from effine.export.lowering.passes import run_passes
from effine.export.lowering.quantise import DEQUANTISE, copies_of, quantise
from effine.export.lowering.shortcuts import shortcuts

WEIGHTS = "backbone"


@dataclass(frozen=True)
class Lowered:
    """A program and the shared weights that it reads.

    Args:
        program: the bytes of the .pte file.
        weights: the bytes of a .ptd file with this program's weights, or None.
        delegates: XNNPACK delegates of each method.
        portable: operators left outside delegates, with their count, for each method.
        footprints: the memory that each method takes.
    """

    program: bytes
    weights: bytes | None
    delegates: dict[str, int]
    portable: dict[str, dict[str, int]]
    footprints: dict[str, Footprint]


@dataclass(frozen=True)
class FrozenWeights:
    """How frozen tensors, given by name, are stored.

    Args:
        shared: those that go into the shared weight file; other constants stay inside
            the program.
        matrices: weights of linear layers that are quantised, with the bias [out] that
            takes the place of the layer's own, or None.
        tables: embedding tables that are quantised.
        bits: of the matrices.
    """

    shared: frozenset[str]
    matrices: Mapping[str, Tensor | None] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()
    bits: int = 8


def lower(methods: Mapping[str, Captured], weights: FrozenWeights) -> Lowered:
    """Lower captured graphs into one program with a method for each.

    Args:
        methods: method name to captured graph.
    """
    matrices = {attribute(name): bias for name, bias in weights.matrices.items()}
    tables = {attribute(name) for name in weights.tables}
    attributes = {attribute(name) for name in weights.shared}
    attributes = attributes.union(*(copies_of(name) for name in {*matrices, *tables}))

    def tag(node: fx.Node) -> str | None:
        return WEIGHTS if str(node.target).removeprefix("b_") in attributes else None

    exported, footprints = {}, {}
    with shortcuts():
        for name, captured in methods.items():
            run_passes(captured.graph)
            footprints[name] = footprint(captured.graph)
            if matrices:
                quantise(captured.graph, matrices, tables, weights.bits)
            inputs = tuple(captured.inputs.values())
            unlifted = torch.export.export(captured.graph, inputs).module()
            delegate_external_constants_pass_unlifted(unlifted, gen_tag_fn=tag)
            _tag_quantised(unlifted)
            exported[name] = torch.export.export(unlifted, inputs)
        edge = to_edge_transform_and_lower(
            exported,
            partitioner={name: [partitioner()] for name in exported},
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
            constant_methods=_training_module_constants(methods),
        )
        manager = edge.to_executorch(
            ExecutorchBackendConfig(
                external_constants=tag,
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
            )
        )
    graphs = {name: manager.exported_program(name).graph for name in methods}
    return Lowered(
        manager.buffer,
        _weights(manager),
        {name: _count_delegates(graph) for name, graph in graphs.items()},
        {name: _count_portable(graph) for name, graph in graphs.items()},
        footprints,
    )


def merge_weights(parts: Iterable[bytes]) -> bytes:
    """One weight file with the union of what several programs need, each tensor once."""
    serializer = FlatTensorSerializer()
    union = NamedDataStore()
    for part in parts:
        payload = serializer.deserialize(Cord(part))
        for key, entry in payload.named_data.items():
            union.add_named_data(
                key,
                payload.buffers[entry.buffer_index],
                external_tag=WEIGHTS,
                tensor_layout=entry.tensor_layout,
            )
    merged = union.get_named_data_store_output()
    named = dict(sorted(merged.external_data.get(WEIGHTS, {}).items()))
    return bytes(serializer.serialize(DataPayload(buffers=merged.buffers, named_data=named)))


def _tag_quantised(unlifted: fx.GraphModule) -> None:
    """XNNPACK reads the tag of quantised weights from the node that dequantises them."""
    for node in unlifted.graph.nodes:
        if node.target in DEQUANTISE:
            node.meta["custom"] = dict(node.args[0].meta["custom"])


def _training_module_constants(methods: Mapping[str, Captured]) -> dict[str, int | str]:
    """What Android's TrainingModule asks a program for; it then runs any method.

    The indices say that no output is a gradient or a parameter.
    """
    constants: dict[str, int | str] = {}
    for name, captured in methods.items():
        outputs = len(captured.outputs)
        constants[f"__et_training_gradients_index_{name}"] = outputs
        constants[f"__et_training_parameters_index_{name}"] = outputs
        constants[f"__et_training_fqn_{name}"] = "none"
    return constants


def _weights(manager: ExecutorchProgramManager) -> bytes | None:
    with TemporaryDirectory() as folder:
        manager.write_tensor_data_to_file(folder)
        file = Path(folder, f"{WEIGHTS}.ptd")
        return file.read_bytes() if file.exists() else None


def _count_delegates(graph: fx.Graph) -> int:
    return sum(node.target is executorch_call_delegate for node in graph.nodes)


def _count_portable(graph: fx.Graph) -> dict[str, int]:
    plumbing = (executorch_call_delegate, operator.getitem, memory.alloc, memory.view)
    calls = [n for n in graph.nodes if n.op == "call_function" and n.target not in plumbing]
    return dict(Counter(str(node.target) for node in calls))
