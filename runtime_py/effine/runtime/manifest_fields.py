"""The parts of a manifest, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from effine.runtime.codec import (
    Amount,
    Count,
    FileName,
    Hash,
    Name,
    Positive,
    Shape,
    Share,
    Text,
    between,
    one_of,
)
from effine.runtime.tasks import known_tasks

STATE_ROLES = ("read", "update", "statistic")
_INPUT_ROLES = ("token", "feature", "mask", "label", "weight", "scalar", "gradient")
DType = Annotated[str, one_of("float32", "float64", "int64", "int32", "uint8")]
Role = Annotated[str, one_of(*_INPUT_ROLES, *STATE_ROLES, "loss", "logits")]


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
    A phase after the first starts from parameters that have parted within `change`, so its features
    and gradients may part by as much more as `change` exceeds `gradient`.
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
    `recompute` says that results are computed again for the backward pass.
    """

    activations: Count
    weights: Count
    state: Count
    features: Count
    peak: Count
    recompute: bool = False


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
