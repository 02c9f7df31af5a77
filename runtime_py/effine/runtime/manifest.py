"""The manifest of an artifact: what it holds, declared by name, role, shape and dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from effine.runtime.codec import FormatError, Hash, Text, decode, encode, is_sealed, parse, seal
from effine.runtime.errors import ArtifactError
from effine.runtime.identity import identity, state_id
from effine.runtime.manifest_checks import PLAIN_SCHEMA, SCHEMA, problems
from effine.runtime.manifest_fields import (
    STATE_ROLES,
    BackboneInfo,
    FileEntry,
    FrozenHead,
    MemoryInfo,
    MethodInfo,
    OptimizerInfo,
    Program,
    ProgramMethod,
    Recipe,
    Shapes,
    TargetInfo,
    TaskInfo,
    TokensInfo,
    Tolerances,
)
from effine.runtime.phases import PARTS, TRAIN, Phase, StateTensor, Transition


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
        own = identity(method, parts["backbone"].sha256, parts["task"], tuple(parts["state"]))
        plain = not parts.get("phases") and _has_backbone(parts["programs"])
        return cls(
            schema=PLAIN_SCHEMA if plain else SCHEMA,
            method_info=method,
            state_id=state_id(own),
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
        for problem in problems(manifest):
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
            if spec.role in STATE_ROLES
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
        return identity(self.method_info, self.backbone.sha256, self.task, self.state)

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


def _has_backbone(programs: Mapping[str, Program]) -> bool:
    names = (name for program in programs.values() for name in program.methods)
    return any(name.partition("_")[0].rpartition(".")[2] == "backbone" for name in names)
