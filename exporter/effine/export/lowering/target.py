"""Targets: what captured graphs can be lowered for, each a module of this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from torch import Tensor

from effine.export.capture import Captured
from effine.export.errors import ExportError
from effine.export.lowering.footprint import Footprint
from effine.runtime.manifest_fields import TargetInfo

TARGETS = ("xnnpack", "onnx")


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


@dataclass(frozen=True)
class Lowered:
    """Programs of one kind and the shared weights that they read.

    Args:
        programs: file name to content, which `link` completes.
        weights: the shared weights in the target's own form.
        file_of: method name to file name.
        footprints: the memory that each method takes.
        delegates: XNNPACK delegates of each method.
        portable: operators left outside delegates, with their count, for each method.
    """

    programs: dict[str, bytes]
    weights: Any
    file_of: dict[str, str]
    footprints: dict[str, Footprint]
    delegates: dict[str, int] = field(default_factory=dict)
    portable: dict[str, dict[str, int]] = field(default_factory=dict)


class Target(Protocol):
    """What a target's module offers."""

    def lower(self, kind: str, methods: Mapping[str, Captured], weights: FrozenWeights) -> Lowered:
        """Lower the captured graphs of one kind of program, by method name."""
        ...

    def link(self, parts: Iterable[Lowered]) -> dict[str, bytes]:
        """The content of all programs and of the shared weights, by file name."""
        ...

    def describe(self) -> TargetInfo:
        """What the manifest says of the target."""
        ...


def check_target(
    name: str, precision: str | None, max_memory: int | None, recompute: bool | None
) -> None:
    """Refuse what a target can't do.

    Args:
        precision: of the frozen weights, where it was asked for.
        max_memory: the bound that was asked for, in bytes.
        recompute: whether results shall be computed again.

    Raises:
        ExportError: there is no such target, or it lacks something.
    """
    find_target(name)
    if name != "onnx":
        return
    if precision == "int4":
        raise ExportError(
            "--backbone-precision int4: standard ONNX operators have no product with 4-bit "
            "weights; use fp32 or int8"
        )
    if recompute:
        raise ExportError(
            "--recompute: ONNX Runtime merges equal computations and keeps their results; "
            "leave it out"
        )
    if max_memory is not None:
        raise ExportError(
            "--max-memory: the prediction is for ExecuTorch's runner, not for --target onnx; "
            "leave one of them out"
        )


def find_target(name: str) -> Target:
    """The module of a target.

    Raises:
        ExportError: there is none of this name.
    """
    if name not in TARGETS:
        raise ExportError(f"--target {name}: not a target; known: {', '.join(TARGETS)}")
    return cast(Target, import_module(f"effine.export.lowering.{name}"))
