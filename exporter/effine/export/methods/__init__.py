"""Methods: one file each, saying which pieces go where and what trains.

A method puts modules into an Encoder and marks parameters as trainable with
`requires_grad_()`. It never touches capture, lowering or the runtime. A new method
is one file with a class decorated by `@method`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.layers import Block, RMSNorm
from effine.runtime.phases import TRAIN, Transition

RowSets = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """Settings that every method has."""


def option(default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its meaning, shown by `effine methods NAME`."""
    return field(default=default, metadata={"meaning": meaning, "choices": choices})


@dataclass(frozen=True)
class Recipe:
    """Training settings a method starts from; a user may change each of them.

    Rates are the peak learning rates of the two parameter groups.
    """

    piece_rate: float
    head_rate: float
    epochs: int = 10
    batch: int = 8
    schedule: str = "linear"
    warmup: float = 0.0


class Method:
    """A way of tuning an encoder. Subclasses override what differs.

    The default features are the hidden states at the cut, just below the first
    trained stage.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    notes: ClassVar[str] = ""
    """What of it is confirmed by its paper and what is reconstructed, where that isn't plain."""
    recipe: Recipe
    Options: ClassVar[type[Options]] = Options
    layered: ClassVar[bool] = True
    adds_up: ClassVar[str] = "gradients"
    """What a policy wants added up of each parameter it watches: `gradients` or `changes`."""
    takes_tokens: bool = False
    """Whether the features are the token inputs themselves, so that no backbone program is."""

    def __init__(self, options: Any, first_layer: int | None = None) -> None:
        self.options = options
        self.first_layer = first_layer
        self.cut = 0

    @property
    def freezes_layers(self) -> bool:
        """Whether matrices of the encoder stay constant, so that they can be quantised."""
        return True

    def install(self, encoder: Encoder) -> None:
        """Put pieces into the encoder and mark what trains. The head always trains."""

    def phases(self, encoder: Encoder) -> tuple[str, ...]:
        """The names of the phases of training, the first one first."""
        return (TRAIN,)

    def enter(self, encoder: Encoder, phase: str, rows: RowSets | None = None) -> None:
        """Arrange the encoder for a phase and mark what trains.

        Args:
            rows: the indices that the transition takes, by name; None for any.
        """

    def any_rows(self, encoder: Encoder) -> RowSets:
        """Indices, by name, that transitions of the golden run may take."""
        return {}

    def transitions(self, encoder: Encoder) -> tuple[Transition, ...]:
        """How the state of one phase becomes that of another."""
        return ()

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the penalty isn't the sum of those of a batch's parts."""
        return False

    def penalty(self, encoder: Encoder, mask: Tensor, weights: Tensor) -> Tensor | None:
        """What the present phase adds to the loss of each example, a scalar.

        Args:
            mask: of the batch that `represent` took last, [B, S].
            weights: the examples' weights [B]; rows that only fill the batch have 0.
        """
        return None

    def bounds(self, parameter: str) -> tuple[float, float] | None:
        """The interval into which each update projects a parameter, if there is one."""
        return None

    def watches(self, parameter: str) -> str | None:
        """The group for which a policy wants something added up of a parameter, else None."""
        return None

    def features(self, encoder: Encoder, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the backbone program computes from token inputs [B, S].

        Returns named tensors whose first dimension is the batch.
        """
        mask = tokens["attention_mask"]
        rows = encoder.run(encoder.embed(tokens), mask, 0, self.cut)[-1]
        return {"hidden": rows.view(*mask.shape, -1)}

    def represent(self, encoder: Encoder, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Vectors [B, d], or [B, S, d] without pooling, from features and the mask [B, S]."""
        below = features["hidden"].flatten(0, 1)
        return encoder.finish(below, mask, self.cut)

    def place_cut(self, encoder: Encoder) -> None:
        """Find the cut: the first stage that holds a trained parameter."""
        stages = range(encoder.stages)
        trained = (s for s in stages if any(p.requires_grad for p in encoder.stage(s).parameters()))
        self.cut = next(trained, encoder.stages)

    @property
    def layers_below(self) -> int:
        """How many whole encoder layers the backbone program runs (0: caching is useless)."""
        return self.cut // 2

    def blocks(self, encoder: Encoder) -> range:
        """0-based indices of the blocks from `first_layer` (1-based) on.

        Raises:
            ExportError: the encoder has fewer layers.
        """
        if (self.first_layer or 0) > encoder.depth:
            raise ExportError(
                f"--first-layer {self.first_layer}: the backbone has {encoder.depth} layers"
            )
        return range(max(self.first_layer or 1, 1) - 1, encoder.depth)

    def inside(self, encoder: Encoder) -> list[Block]:
        """The blocks from `first_layer` on, for methods that change what is inside of them.

        Blocks that share their weights (ALBERT) are one, with one set of pieces for all,
        as in transformers and peft. Pieces behind the blocks are one for each depth.

        Raises:
            ExportError: the encoder has fewer layers, or those from `first_layer` on share
                weights with layers below, which are to stay frozen.
        """
        indices = self.blocks(encoder)
        chosen = list(dict.fromkeys(encoder.layers[index] for index in indices))
        if any(block in chosen for block in encoder.layers[: indices.start]):
            raise ExportError(
                f"--first-layer {self.first_layer}: the layers of '{encoder.architecture}' share "
                f"their weights, so '{self.name}' can't change some of them; leave it out"
            )
        return chosen

    def trains_embedding_norm(self) -> bool:
        """Whether stage 0 takes part: unless `first_layer` was raised above 0."""
        return not self.first_layer


_METHODS: dict[str, type[Method]] = {}


def method(cls: type[Method]) -> type[Method]:
    """Register a method by its name."""
    _METHODS[cls.name] = cls
    return cls


def known_methods() -> dict[str, type[Method]]:
    """All methods by name, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def make_method(
    name: str, settings: Mapping[str, Any] | None = None, first_layer: int | None = None
) -> Method:
    """Build a method from its name and settings, which may be strings.

    Raises:
        ExportError: unknown name or option, or a value of the wrong type.
    """
    cls = known_methods().get(name)
    if cls is None:
        raise ExportError(f"--method {name}: not a method; known: {', '.join(known_methods())}")
    if first_layer is not None and not cls.layered:
        raise ExportError(f"--first-layer: method '{name}' has no pieces inside the layers")
    fields = {f.name: f for f in dataclasses.fields(cls.Options)}
    values = {}
    for key, value in (settings or {}).items():
        if key not in fields:
            raise ExportError(
                f"--method-option {key}: '{name}' has no such option; "
                f"known: {', '.join(fields) or 'none'}"
            )
        values[key] = _parse(fields[key], key, value)
    return cls(cls.Options(**values), first_layer)


def describe_methods(name: str | None = None) -> list[dict[str, Any]]:
    """Name, summary, recipe and options of all methods, or of one.

    Raises:
        ExportError: the name is unknown.
    """
    chosen = (
        {name: make_method(name)} if name else {key: make_method(key) for key in known_methods()}
    )
    return [
        {
            "name": key,
            "summary": made.summary,
            "notes": made.notes,
            "recipe": dataclasses.asdict(made.recipe),
            "options": [
                {"name": f.name, "default": f.default, **f.metadata}
                for f in dataclasses.fields(made.Options)
            ],
        }
        for key, made in chosen.items()
    ]


def read_options(path: Path) -> dict[str, Any]:
    """Read method options from a TOML file of `name = value` lines."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExportError(f"{path}: can't be read as TOML: {error}") from error


def train_norms(modules: Iterable[nn.Module]) -> None:
    """Mark the norms in these modules as trained."""
    for module in modules:
        for norm in module.modules():
            if isinstance(norm, (nn.LayerNorm, RMSNorm)):
                norm.requires_grad_()


def _parse(spec: dataclasses.Field[Any], key: str, value: Any) -> Any:
    kind: Any = type(spec.default)
    choices = spec.metadata["choices"]
    try:
        if kind is bool and str(value).lower() not in ("true", "false"):
            raise ValueError
        parsed = str(value).lower() == "true" if kind is bool else kind(value)
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"--method-option {key}={value}: expected a value of type {kind.__name__}"
        ) from error
    if choices and parsed not in choices:
        raise ExportError(f"--method-option {key}={value}: choose from {', '.join(choices)}")
    return parsed
