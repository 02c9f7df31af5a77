"""Artifacts whose programs are not lowered: PyTorch runs their captured graphs, in far less time
than lowering them takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts import BATCH, intents
from effine.export import programs
from effine.export.capture import Captured
from effine.export.lowering.footprint import footprint
from effine.export.lowering.target import FrozenWeights, Lowered, Target
from effine.export.pipeline import export
from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays

Graphs = dict[str, Captured]


class GraphEngine:
    """Runs captured graphs, and remembers which."""

    def __init__(self, artifact: Artifact, graphs: Graphs) -> None:
        self.manifest = artifact.manifest
        self.graphs = graphs
        self.calls: list[str] = []

    def run(self, method: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self.calls.append(method)
        spec = self.manifest.method(method)
        given = [torch.from_numpy(np.ascontiguousarray(inputs[s.name])) for s in spec.inputs]
        assert [tuple(t.shape) for t in given] == [s.shape for s in spec.inputs], method
        with torch.no_grad():
            outputs = self.graphs[method].graph(*given)
        named = zip(spec.outputs, outputs, strict=True)
        return {s.name: tensor.detach().numpy().copy() for s, tensor in named}


def eager_artifact(model: Path, out: Path, **settings: Any) -> tuple[Artifact, Graphs]:
    """Export without lowering; returns the artifact and what an engine for it runs."""
    graphs: Graphs = {}

    def unlowered(
        target: Target, captured: dict[str, Graphs], weights: FrozenWeights
    ) -> dict[str, Lowered]:
        for methods in captured.values():
            graphs.update(methods)
        return {
            kind: Lowered(
                programs={f"{kind}.pte": b"none"},
                weights=None,
                file_of=dict.fromkeys(methods, f"{kind}.pte"),
                footprints={name: footprint(made.graph) for name, made in methods.items()},
            )
            for kind, methods in captured.items()
            if methods
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_lower_all", unlowered)
        options = {"data": intents(), "seq": "16", "batch": BATCH} | settings
        return export(str(model), out=out, **options), graphs
