"""What is wrong with a manifest although each of its fields is well-formed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from effine.runtime.codec import FileName, FormatError, Shape, decode
from effine.runtime.identity import state_id
from effine.runtime.manifest_fields import STATE_ROLES, ProgramMethod, TensorSpec
from effine.runtime.phases import unmakeable

if TYPE_CHECKING:
    from effine.runtime.manifest import Manifest

SCHEMA = 2
PLAIN_SCHEMA = 1
RESERVED_FILES = ("manifest.json", "manifest.sig", "reports")


def problems(manifest: Manifest) -> Iterator[str]:
    """What no single field shows."""
    names = [entry.name for entry in manifest.state]
    seqs = list(manifest.shapes.seqs)
    for what, items in (
        ("state", names),
        ("programs", [name for name, _ in _methods(manifest)]),
        ("task.labels", list(manifest.task.labels)),
        ("tokens.inputs", list(manifest.tokens.inputs)),
    ):
        if len(set(items)) != len(items):
            yield f"{what}: a name occurs twice"
    if not seqs or seqs != sorted(set(seqs)) or manifest.tokens.max_length != seqs[-1]:
        yield "shapes.seqs: not ascending up to tokens.max_length"
    if any(name.startswith("best.") or name == "__metadata__" for name in names):
        yield "state: a name is reserved for files"
    if (manifest.target.opset is None) == (manifest.target.name == "onnx"):
        yield "target.opset: ONNX programs have one, others none"
    if manifest.schema not in (PLAIN_SCHEMA, SCHEMA):
        yield f"schema: {manifest.schema} is unknown to this version"
    yield from _phase_problems(manifest)
    yield from _file_problems(manifest)
    yield from _signature_problems(manifest)
    if manifest.state_id != state_id(manifest.identity):
        yield "state_id: doesn't follow from method, backbone, labels and state"


def _phase_problems(manifest: Manifest) -> Iterator[str]:
    if manifest.schema == PLAIN_SCHEMA and (manifest.phases or not manifest.has_backbone):
        yield f"schema: an artifact of schema {PLAIN_SCHEMA} has a backbone and no phases"
    trained = {name.partition("_")[0] for name, _ in _methods(manifest)}
    for phase in manifest.phases:
        if phase not in trained:
            yield f"phases: {phase!r} has no train method"
    layouts = {phase: manifest.layout(phase) for phase in manifest.phases}
    for transition in manifest.transitions:
        unknown = {*transition.sources, transition.target} - layouts.keys()
        if unknown:
            yield f"transitions: {min(unknown)!r} is not a phase"
            return
        for source in transition.sources:
            yield from unmakeable(transition, layouts[source], layouts[transition.target])


def _file_problems(manifest: Manifest) -> Iterator[str]:
    for name in manifest.files:
        try:
            decode(FileName, name, "files")
        except FormatError as error:
            yield str(error)
        if name in RESERVED_FILES:
            yield f"files: {name} can't be listed"
    for kind, program in manifest.programs.items():
        if manifest.files and program.file not in manifest.files:
            yield f"programs.{kind}: {program.file} isn't among the files"


def _signature_problems(manifest: Manifest) -> Iterator[str]:
    state = {entry.name: (entry.shape, entry.dtype) for entry in manifest.state}
    for name, method in _methods(manifest):
        seqs = {spec.shape[1:] for spec in method.inputs if spec.role == "token"}
        for spec in method.outputs:
            if spec.role == "feature" and not _is_feature(spec, seqs):
                yield f"programs: {name!r}: {spec.name!r} is neither [B, S, d] nor [B, d]"
        for specs in (method.inputs, method.outputs):
            if len({spec.name for spec in specs}) != len(specs):
                yield f"programs: {name!r} has an input or output twice"
            for spec in specs:
                declared = (spec.shape, spec.dtype)
                if spec.role in STATE_ROLES and state.get(spec.name) != declared:
                    yield f"programs: {name!r}: {spec.name!r} isn't in the state as declared"


def _methods(manifest: Manifest) -> Iterator[tuple[str, ProgramMethod]]:
    for program in manifest.programs.values():
        yield from program.methods.items()


def _is_feature(spec: TensorSpec, seqs: set[Shape]) -> bool:
    """Whether a feature has one of its two forms, given the [S] of its method's tokens."""
    return spec.shape[1:-1] in seqs if spec.per_token else len(spec.shape) == 2
