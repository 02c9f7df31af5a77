"""The manifest of an artifact: what it holds, declared by name, role, shape and dtype."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Self

from effine.runtime.codec import (
    Amount,
    Count,
    FileName,
    FormatError,
    Hash,
    Name,
    Positive,
    Shape,
    Share,
    Text,
    between,
    canonical,
    decode,
    encode,
    is_sealed,
    one_of,
    parse,
    seal,
)
from effine.runtime.errors import ArtifactError
from effine.runtime.phases import PARTS, TRAIN, Phase, StateTensor, Transition, unmakeable
from effine.runtime.tasks import known_tasks

SCHEMA = 2
PLAIN_SCHEMA = 1
RESERVED_FILES = ("manifest.json", "manifest.sig", "reports")
DType = Annotated[str, one_of("float32", "float64", "int64", "int32", "uint8")]
_INPUT_ROLES = ("token", "feature", "mask", "label", "weight", "scalar", "gradient")
_STATE_ROLES = ("read", "update", "statistic")
Role = Annotated[str, one_of(*_INPUT_ROLES, *_STATE_ROLES, "loss", "logits")]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a program method; a feature is [B, S, d] or [B, d]."""

    name: Name
    role: Role
    shape: Shape
    dtype: DType

    @property
    def per_token(self) -> bool:
        """Whether a feature has a row for each token rather than for each sample."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class ProgramMethod:
    """Inputs and outputs of a program method, in the program's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class TargetInfo:
    """What the programs are for.

    `version` is that of ExecuTorch or, for ONNX, of the package that wrote the programs;
    `opset` is the version of the ONNX operators.
    """

    name: Annotated[str, one_of("xnnpack", "onnx")]
    version: Text
    opset: Positive | None = None


@dataclass(frozen=True)
class Program:
    """A program file and its methods by name; an ONNX program has one."""

    file: FileName
    methods: dict[str, ProgramMethod]


@dataclass(frozen=True)
class MethodInfo:
    """The tuning method; `layers_below` is how many encoder layers the backbone program has."""

    name: Name
    options: dict[str, Any]
    first_layer: Count | None
    layers_below: Count


@dataclass(frozen=True)
class BackboneInfo:
    """The frozen encoder; `sha256` is that of its values before any quantisation."""

    name: Text
    architecture: Name
    depth: Positive
    hidden: Positive
    pooling: Name
    precision: Annotated[str, one_of("fp32", "int8", "int4")]
    sha256: Hash


@dataclass(frozen=True)
class TaskInfo:
    """What is learned: labels in head order, rows kept for more, and the metric shown."""

    name: Annotated[str, one_of(*known_tasks())]
    labels: tuple[Text, ...]
    spare_labels: Count
    metric: Annotated[str, one_of(*(task.metrics[0] for task in known_tasks().values()))]
    pair: bool


@dataclass(frozen=True)
class TokensInfo:
    """Token inputs in program order; `max_length` is the longest exported sequence."""

    inputs: tuple[Annotated[str, one_of("input_ids", "token_type_ids", "attention_mask")], ...]
    pad_id: Count
    max_length: Positive


@dataclass(frozen=True)
class OptimizerInfo:
    """The optimizer inside the train program.

    `first_gradient_factor` times the first of `moments` after the first step from zero
    moments is that step's gradient. `clip_norm` 0 means no clipping.
    """

    name: Name
    weight_decay: Amount
    clip_norm: Amount
    moments: tuple[Name, ...]
    first_gradient_factor: Amount


@dataclass(frozen=True)
class Recipe:
    """Default hyper-parameters.

    `warmup` is a share of the updates; an update sums up the gradients of `accumulate` batches.
    """

    piece_rate: Amount
    head_rate: Amount
    epochs: Positive
    schedule: Annotated[str, one_of("constant", "linear", "cosine")]
    warmup: Share
    accumulate: Positive = 1


@dataclass(frozen=True)
class Shapes:
    """The training batch and the exported sequence lengths, ascending."""

    batch: Positive
    seqs: tuple[Positive, ...]


@dataclass(frozen=True)
class Tolerances:
    """Limits of the parity checks.

    `cosine` above 0 compares features and logits by their cosine with the reference and
    not element by element; `cosine_fp32` is the least cosine with the unquantised ones.
    `reason` says why limits are wider than the design's.
    """

    feature_rtol: Amount = 1e-3
    feature_atol: Amount = 1e-4
    gradient: Amount = 1e-3
    gradient_floor: Amount = 1e-5
    loss: Amount = 1e-3
    change: Amount = 2e-2
    change_tensor: Amount = 0.1
    cosine: Share = 0.0
    cosine_fp32: Share = 0.0
    reason: str = ""


@dataclass(frozen=True)
class MemoryInfo:
    """Memory of a training run in bytes, for the largest batch.

    `activations` are alive within a step, `weights` are the frozen ones that are packed,
    `state` has the parameters and moments, `features` are those of a batch. `peak` predicts
    the largest resident size of the native runner; it is 0 for ONNX, which that doesn't run.
    """

    activations: Count
    weights: Count
    state: Count
    features: Count
    peak: Count


@dataclass(frozen=True)
class FrozenHead:
    """Score of a head on the frozen encoder, measured at export."""

    score: float
    metric: Name
    data: Text


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of a file."""

    size: Annotated[int, between(0, 2**53)]
    sha256: Hash


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a host needs to know of an artifact; see the design for the fields.

    Artifacts without phases whose features are computed by a backbone program have schema 1.
    """

    schema: int = PLAIN_SCHEMA
    effine: Text
    target: TargetInfo
    torch: Text
    name: Text
    method_info: MethodInfo = field(metadata={"key": "method"})
    backbone: BackboneInfo
    task: TaskInfo
    tokens: TokensInfo
    optimizer: OptimizerInfo
    recipe: Recipe
    shapes: Shapes
    programs: dict[str, Program]
    state: tuple[StateTensor, ...]
    state_id: Hash
    phases: dict[str, Phase] = field(default_factory=dict, metadata={"optional": True})
    transitions: tuple[Transition, ...] = ()
    tolerances: Tolerances
    memory: MemoryInfo
    frozen_head: FrozenHead | None
    files: dict[str, FileEntry] = field(default_factory=dict)
    sha256: Hash = "0" * 64

    @classmethod
    def describe(cls, *, method: MethodInfo, **parts: Any) -> Self:
        """Build a manifest without files; `parts` are fields, the state id follows from them."""
        identity = _identity(method, parts["backbone"].sha256, parts["task"], tuple(parts["state"]))
        plain = not parts.get("phases") and _has_backbone(parts["programs"])
        return cls(
            schema=PLAIN_SCHEMA if plain else SCHEMA,
            method_info=method,
            state_id=state_id(identity),
            **parts,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a manifest strictly.

        Raises:
            ArtifactError: it is damaged, newer than this version, or says something absurd.
        """
        if not is_sealed(text):
            raise ArtifactError(
                "manifest.json: damaged: its bytes don't give its own sha256; "
                "copy the artifact anew or export it again"
            )
        try:
            document = parse(text)
            schema = document.get("schema") if isinstance(document, dict) else None
            if type(schema) is int and schema > SCHEMA:
                raise ArtifactError(
                    f"manifest.json: schema {schema} is newer than this version reads "
                    f"({SCHEMA}); update effine"
                )
            manifest: Self = decode(cls, document, "")
        except FormatError as error:
            raise ArtifactError(f"manifest.json: {error}") from error
        for problem in manifest._problems():
            raise ArtifactError(f"manifest.json: {problem}")
        return manifest

    def to_json(self) -> str:
        """The file's text, with the SHA-256 that belongs to it."""
        return seal(encode(self))

    @cached_property
    def parameters(self) -> tuple[StateTensor, ...]:
        """The tensors that are trained, without moments, as the first phase has them."""
        return self.parameters_in(self.first_phase)

    def parameters_in(self, phase: str) -> tuple[StateTensor, ...]:
        """The tensors that are trained or were, without moments, as a phase has them."""
        return tuple(entry for entry in self.layout(phase) if entry.role == "parameter")

    @property
    def first_phase(self) -> str:
        """The phase in which training starts."""
        return next(iter(self.phases), TRAIN)

    def layout(self, phase: str) -> tuple[StateTensor, ...]:
        """The tensors of the state in a phase, in order."""
        if not self.phases:
            return self.state
        used = {
            spec.name
            for name in (phase, *(self._part(kind, phase) for kind in PARTS))
            for method in self._by_prefix.get(name, {}).values()
            for spec in method.inputs
            if spec.role in _STATE_ROLES
        }
        return tuple(entry for entry in self.state if entry.name in used)

    def layers_below(self, phase: str) -> int:
        """How many whole encoder layers the backbone program runs in a phase."""
        return (self.phases.get(phase) or self.method_info).layers_below

    def transition(self, source: str, target: str) -> Transition:
        """How the state of one phase becomes that of another.

        Raises:
            ArtifactError: there is no way.
        """
        for transition in self.transitions:
            if source in transition.sources and target == transition.target:
                return transition
        raise ArtifactError(f"artifact {self.name!r} can't go from phase {source} to {target}")

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the artifact that loads it."""
        return _identity(self.method_info, self.backbone.sha256, self.task, self.state)

    def method(self, name: str) -> ProgramMethod:
        """A program method by its name, which is unique over the programs.

        Raises:
            ArtifactError: there is none.
        """
        return self._find(name)[1]

    def program_of(self, name: str) -> Program:
        """The program that has a method.

        Raises:
            ArtifactError: none has.
        """
        return self._find(name)[0]

    def seq_for(self, length: int) -> int:
        """The smallest exported sequence length that holds `length` tokens.

        Raises:
            ValueError: none does.
        """
        for seq in self.shapes.seqs:
            if seq >= length:
                return seq
        raise ValueError(f"{length} tokens exceed the longest exported sequence")

    def train_method(self, seq: int, phase: str | None = None) -> tuple[str, ProgramMethod]:
        """The train method of a phase, by default the first, for features of length `seq`.

        Raises:
            ArtifactError: there is none.
        """
        return self._at_least(phase or self.first_phase, self.shapes.batch, seq)

    @cached_property
    def accumulates(self) -> bool:
        """Whether gradients of several batches can be summed up for one update."""
        return "accumulate" in self._by_prefix

    def accumulate_method(self, seq: int, phase: str | None = None) -> tuple[str, ProgramMethod]:
        """The method that adds gradients to their sums, for features of length `seq`.

        Raises:
            ArtifactError: there is none.
        """
        return self._at_least(self._part("accumulate", phase), self.shapes.batch, seq)

    def apply_method(self, phase: str | None = None) -> tuple[str, ProgramMethod]:
        """The method that updates the state from gradient sums.

        Raises:
            ArtifactError: there is none.
        """
        return self._at_least(self._part("apply", phase), self.shapes.batch, 1)

    def predict_method(
        self, batch: int, seq: int, phase: str | None = None
    ) -> tuple[str, ProgramMethod]:
        """The predict method for a batch of features of sequence length `seq`.

        Raises:
            ArtifactError: there is none.
        """
        return self._at_least(self._part("predict", phase), batch, seq)

    @property
    def has_backbone(self) -> bool:
        """Whether a program computes the features; otherwise they are the token inputs."""
        return _has_backbone(self.programs)

    def backbone_method(
        self, batch: int, seq: int, phase: str = TRAIN
    ) -> tuple[str, ProgramMethod]:
        """The backbone method for exactly this shape.

        Raises:
            ArtifactError: there is none.
        """
        name = f"{self._part('backbone', phase)}_b{batch}_s{seq}"
        return name, self.method(name)

    @cached_property
    def _methods(self) -> dict[str, tuple[Program, ProgramMethod]]:
        return {
            name: (program, method)
            for program in self.programs.values()
            for name, method in program.methods.items()
        }

    @cached_property
    def _by_prefix(self) -> dict[str, dict[str, ProgramMethod]]:
        """The program methods by what precedes their shape."""
        found: dict[str, dict[str, ProgramMethod]] = {}
        for name, (_, method) in self._methods.items():
            found.setdefault(name.partition("_")[0], {})[name] = method
        return found

    def _part(self, kind: str, phase: str | None) -> str:
        """What names of a kind's methods start with in a phase, by default the first."""
        own = f"{phase}.{kind}"
        return own if own in self._by_prefix else kind

    def _find(self, name: str) -> tuple[Program, ProgramMethod]:
        found = self._methods.get(name)
        if found is None:
            raise ArtifactError(f"artifact {self.name!r} has no program method {name!r}")
        return found

    def _at_least(self, prefix: str, batch: int, seq: int) -> tuple[str, ProgramMethod]:
        for known in self.shapes.seqs:
            name = f"{prefix}_b{batch}_s{known}"
            if known >= seq and name in self._methods:
                return name, self._methods[name][1]
        raise ArtifactError(
            f"artifact {self.name!r} has no {prefix} method for batch {batch} and {seq} tokens"
        )

    def _problems(self) -> Iterator[str]:
        """What no single field shows."""
        names = [entry.name for entry in self.state]
        methods = [name for program in self.programs.values() for name in program.methods]
        seqs = list(self.shapes.seqs)
        for what, items in (
            ("state", names),
            ("programs", methods),
            ("task.labels", list(self.task.labels)),
            ("tokens.inputs", list(self.tokens.inputs)),
        ):
            if len(set(items)) != len(items):
                yield f"{what}: a name occurs twice"
        if not seqs or seqs != sorted(set(seqs)) or self.tokens.max_length != seqs[-1]:
            yield "shapes.seqs: not ascending up to tokens.max_length"
        if any(name.startswith("best.") or name == "__metadata__" for name in names):
            yield "state: a name is reserved for files"
        if (self.target.opset is None) == (self.target.name == "onnx"):
            yield "target.opset: ONNX programs have one, others none"
        if self.schema not in (PLAIN_SCHEMA, SCHEMA):
            yield f"schema: {self.schema} is unknown to this version"
        yield from self._phase_problems()
        yield from self._file_problems()
        yield from self._signature_problems()
        if self.state_id != state_id(self.identity):
            yield "state_id: doesn't follow from method, backbone, labels and state"

    def _phase_problems(self) -> Iterator[str]:
        if self.schema == PLAIN_SCHEMA and (self.phases or not self.has_backbone):
            yield f"schema: an artifact of schema {PLAIN_SCHEMA} has a backbone and no phases"
        for phase in self.phases:
            if phase not in self._by_prefix:
                yield f"phases: {phase!r} has no train method"
        layouts = {phase: self.layout(phase) for phase in self.phases}
        for transition in self.transitions:
            unknown = {*transition.sources, transition.target} - layouts.keys()
            if unknown:
                yield f"transitions: {min(unknown)!r} is not a phase"
                return
            for source in transition.sources:
                yield from unmakeable(transition, layouts[source], layouts[transition.target])

    def _file_problems(self) -> Iterator[str]:
        for name in self.files:
            try:
                decode(FileName, name, "files")
            except FormatError as error:
                yield str(error)
            if name in RESERVED_FILES:
                yield f"files: {name} can't be listed"
        for kind, program in self.programs.items():
            if self.files and program.file not in self.files:
                yield f"programs.{kind}: {program.file} isn't among the files"

    def _signature_problems(self) -> Iterator[str]:
        state = {entry.name: (entry.shape, entry.dtype) for entry in self.state}
        for name, (_, method) in self._methods.items():
            seqs = {spec.shape[1:] for spec in method.inputs if spec.role == "token"}
            for spec in method.outputs:
                if spec.role == "feature" and not _is_feature(spec, seqs):
                    yield f"programs: {name!r}: {spec.name!r} is neither [B, S, d] nor [B, d]"
            for specs in (method.inputs, method.outputs):
                if len({spec.name for spec in specs}) != len(specs):
                    yield f"programs: {name!r} has an input or output twice"
                for spec in specs:
                    if spec.role in _STATE_ROLES and state.get(spec.name) != (
                        spec.shape,
                        spec.dtype,
                    ):
                        yield f"programs: {name!r}: {spec.name!r} isn't in the state as declared"


def _is_feature(spec: TensorSpec, seqs: set[Shape]) -> bool:
    """Whether a feature has one of its two forms, given the [S] of its method's tokens."""
    return spec.shape[1:-1] in seqs if spec.per_token else len(spec.shape) == 2


def state_id(identity: dict[str, Any]) -> str:
    """The SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()


def _has_backbone(programs: Mapping[str, Program]) -> bool:
    names = (name for program in programs.values() for name in program.methods)
    return any(name.partition("_")[0].rpartition(".")[2] == "backbone" for name in names)


def _identity(
    method: MethodInfo, backbone: str, task: TaskInfo, state: tuple[StateTensor, ...]
) -> dict[str, Any]:
    return {
        "method": method.name,
        "options": encode(method.options),
        "first_layer": method.first_layer,
        "backbone": backbone,
        "labels": list(task.labels),
        "spare_labels": task.spare_labels,
        "state": hashlib.sha256(canonical(encode(state)).encode()).hexdigest(),
    }
