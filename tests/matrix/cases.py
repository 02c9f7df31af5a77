"""What the matrix combines, and what the result of a combination depends on."""

from __future__ import annotations

import functools
import itertools
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import networks
from artifacts import BATCH, DATA, FEW_PHASES
from effine.export.bench.commands.options import PRECISIONS
from effine.export.lowering.target import TARGETS
from effine.export.methods import known_methods
from effine.export.tasks import find_task, known_tasks
from effine.runtime.tasks import find_task as find_runtime_task
from matrix.sources import fingerprint

METHODS = tuple(known_methods())
TASKS = tuple(known_tasks())
DECODER = "t5-decoder"
MODELS = (*networks.ARCHITECTURES, DECODER)
CHOICES = {
    "methods": METHODS,
    "tasks": TASKS,
    "models": MODELS,
    "targets": TARGETS,
    "precisions": PRECISIONS,
}
QUANTISED_TASK = "classification"
_PACKAGES = ("executorch", "numpy", "onnx", "onnxruntime", "torch", "transformers")


@dataclass(frozen=True)
class Case:
    """One combination; frozen weights other than fp32 are tried with one task alone."""

    method: str
    task: str
    model: str
    target: str
    precision: str = "fp32"

    @property
    def architecture(self) -> str:
        """That of the tiny model."""
        return "t5" if self.model == DECODER else self.model

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the export, without its model and output."""
        return {
            "method": self.method,
            "options": FEW_PHASES.get(self.method, {}),
            "task": self.task,
            "data": DATA[self.task](),
            "seq": "16",
            "batch": BATCH,
            "pooling": "decoder" if self.model == DECODER else None,
            "backbone_precision": self.precision,
            "target": self.target,
        }

    def fingerprint(self) -> str:
        """A hash of the sources, packages and settings that the result depends on."""
        pieces = FEW_PHASES.get(self.method, {}).get("pieces", self.method)
        modules = {
            "effine.export.pipeline",
            "effine.runtime.parity",
            f"effine.export.lowering.{self.target}",
            f"effine.export.backbones.{self.architecture.removeprefix('xlm-')}",
            known_methods()[self.method].__module__,
            known_methods()[pieces].__module__,
            find_task(self.task).__module__,
            type(find_runtime_task(self.task)).__module__,
        }
        return fingerprint(modules, networks.__file__, json.dumps([self.settings, versions()]))


def cases(
    methods: Sequence[str] = METHODS,
    tasks: Sequence[str] = TASKS,
    models: Sequence[str] = MODELS,
    targets: Sequence[str] = TARGETS,
    precisions: Sequence[str] = PRECISIONS,
) -> Iterator[Case]:
    """All combinations of these, in the page's order."""
    for target, precision in itertools.product(targets, precisions):
        for method, task, model in itertools.product(methods, tasks, models):
            if precision == "fp32" or task == QUANTISED_TASK:
                yield Case(method, task, model, target, precision)


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and the packages that capture, lower and execute programs."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
