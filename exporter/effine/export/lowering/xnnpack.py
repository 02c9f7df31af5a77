"""ExecuTorch programs from captured graphs, delegated to XNNPACK."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
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
from torch import fx

from effine.export.capture import Captured, attribute
from effine.export.lowering.footprint import footprint
from effine.export.lowering.partition import partitioner
from effine.export.lowering.passes import pack_with_bias, run_passes
from effine.export.lowering.quantise import DEQUANTISE, copies_of, quantise
from effine.export.lowering.recompute import compute_again
from effine.export.lowering.shortcuts import shortcuts
from effine.export.lowering.target import FrozenWeights, Lowered
from effine.runtime.engines import WEIGHT_FILES
from effine.runtime.manifest_fields import TargetInfo

WEIGHTS = "backbone"


def describe() -> TargetInfo:
    """What the manifest says of the target."""
    return TargetInfo("xnnpack", version("executorch"))


def lower(kind: str, methods: Mapping[str, Captured], weights: FrozenWeights) -> Lowered:
    """Lower captured graphs into one program with a method for each.

    Args:
        kind: names the program.
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
            if captured.recompute:
                compute_again(captured)
            footprints[name] = footprint(captured.graph)
            graph, inputs = captured.graph, tuple(captured.inputs.values())
            if matrices:
                quantise(graph, matrices, tables, weights.bits)
                # Tags of attributes that are new hold only in a graph that export has made.
                graph = torch.export.export(graph, inputs).module()
            pack_with_bias(graph)
            delegate_external_constants_pass_unlifted(graph, gen_tag_fn=tag)
            _tag_quantised(graph)
            exported[name] = torch.export.export(graph, inputs)
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
    file = f"{kind}.pte"
    return Lowered(
        {file: manager.buffer},
        _weights(manager),
        dict.fromkeys(methods, file),
        footprints,
        {name: _count_delegates(graph) for name, graph in graphs.items()},
        {name: _count_portable(graph) for name, graph in graphs.items()},
    )


def link(parts: Iterable[Lowered]) -> dict[str, bytes]:
    """The programs as they are, and one file with all weights."""
    lowered = list(parts)
    files = {name: content for part in lowered for name, content in part.programs.items()}
    weights = _merge_weights(part.weights for part in lowered if part.weights is not None)
    return files | {WEIGHT_FILES["xnnpack"]: weights}


def _merge_weights(parts: Iterable[bytes]) -> bytes:
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
