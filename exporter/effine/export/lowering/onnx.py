"""ONNX programs from captured graphs: one file for each method, weights in a file beside them.

Inputs have the names of the manifest. So have outputs, but where an input has the name too:
a state tensor `NAME` comes out as `NAME.next`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from effine.export.capture import Captured, attribute
from effine.export.lowering.footprint import footprint
from effine.export.lowering.graph import Node
from effine.export.lowering.onnx_int8 import Quantised
from effine.export.lowering.onnx_operators import TYPES, Writer, write
from effine.export.lowering.passes import run_passes
from effine.export.lowering.target import FrozenWeights, Lowered
from effine.runtime.engines import WEIGHT_FILES
from effine.runtime.manifest_fields import TargetInfo

OPSET = 20
IR_VERSION = 9
"""The first that has this opset; newer ones would shut out older runtimes."""
WEIGHTS = WEIGHT_FILES["onnx"]
_PAGE = 4096
"""Runtimes map weights that start at a page, where they would read others into memory."""


def describe() -> TargetInfo:
    """What the manifest says of the target."""
    return TargetInfo("onnx", version("onnx"), OPSET)


def lower(kind: str, methods: Mapping[str, Captured], weights: FrozenWeights) -> Lowered:
    """Lower captured graphs into a program for each method; their weights aren't placed yet.

    Raises:
        ExportError: a graph has an operator that can't be written as ONNX.
    """
    shared = {attribute(name) for name in weights.shared}
    quantised = Quantised(
        {attribute(name): bias for name, bias in weights.matrices.items()},
        frozenset(map(attribute, weights.tables)),
    )
    programs, footprints = {}, {}
    parts: dict[str, bytes] = {}
    for name, captured in methods.items():
        run_passes(captured.graph, sums_as_products=False)
        footprints[name] = footprint(captured.graph)
        model, used = _model(name, captured, shared, quantised)
        programs[f"{name}.onnx"] = model.SerializeToString(deterministic=True)
        parts |= {key: value.numpy().tobytes() for key, value in used.items() if key not in parts}
    return Lowered(programs, parts, {name: f"{name}.onnx" for name in methods}, footprints)


def link(parts: Iterable[Lowered]) -> dict[str, bytes]:
    """The programs with the places of their weights, and one file with all weights."""
    lowered = list(parts)
    weights = {name: content for part in lowered for name, content in part.weights.items()}
    places, stored = {}, bytearray()
    for name, content in sorted(weights.items()):
        stored += bytes(-len(stored) % _PAGE)
        places[name] = {"location": WEIGHTS, "offset": len(stored), "length": len(content)}
        stored += content
    files = {WEIGHTS: bytes(stored)}
    for part in lowered:
        for file, content in part.programs.items():
            model = onnx.ModelProto.FromString(content)
            for tensor in model.graph.initializer:
                if tensor.data_location == TensorProto.EXTERNAL:
                    for key, value in places[tensor.name].items():
                        tensor.external_data.add(key=key, value=str(value))
            files[file] = model.SerializeToString(deterministic=True)
    return files


def _model(
    name: str, captured: Captured, shared: set[str], quantised: Quantised
) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """A captured graph as a model, and the shared weights that it refers to."""
    writer = Writer()
    inputs = iter(captured.inputs)
    results: list[Node] = []
    for node in captured.graph.graph.nodes:
        if node.op == "placeholder":
            writer.names[node] = next(inputs)
        elif node.op == "get_attr":
            kept = writer.weights if node.target in shared else writer.constants
            kept[node.target] = getattr(captured.graph, node.target).contiguous()
            writer.names[node] = node.target
        elif node.op == "output":
            results = node.args[0]
        elif not quantised.write(writer, captured.graph, node):
            write(writer, node)
    outputs = [f"{key}.next" if key in captured.inputs else key for key in captured.outputs]
    for result, output in zip(results, outputs, strict=True):
        writer.nodes.append(helper.make_node("Identity", [writer.names[result]], [output]))
    nodes = _needed(writer.nodes, outputs)
    read = {value for node in nodes for value in node.input}
    constants = {key: value for key, value in writer.constants.items() if key in read}
    used = {key: value for key, value in writer.weights.items() if key in read}
    graph = helper.make_graph(
        nodes,
        name,
        _described(captured.inputs, list(captured.inputs)),
        _described(captured.outputs, outputs),
        [
            *(numpy_helper.from_array(value.numpy(), key) for key, value in constants.items()),
            *(_elsewhere(key, value) for key, value in used.items()),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="effine",
        producer_version=version("effine"),
    )
    return model, used


def _elsewhere(name: str, value: Tensor) -> TensorProto:
    """A tensor whose values are in the weight file, at a place that is set later."""
    tensor = TensorProto(name=name, data_type=TYPES[value.dtype], dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def _described(tensors: Mapping[str, Tensor], names: list[str]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TYPES[tensor.dtype], tuple(tensor.shape))
        for name, tensor in zip(names, tensors.values(), strict=True)
    ]


def _needed(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs follow from."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(node)
    return kept[::-1]
