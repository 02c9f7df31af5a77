"""`effine bench size`: what an artifact weighs, beside what others need for the same."""

from __future__ import annotations

from typing import Any

from effine.export.bench.rivals.case import Unavailable, make_case
from effine.export.bench.rivals.executorch import joint_program, portable, xnnpack
from effine.export.bench.rivals.network import head_model
from effine.runtime.artifact import Artifact

WEIGHTS = "the backbone's weights in fp32"
_JOINT = {"ExecuTorch's joint program": portable, "the same on XNNPACK": xnnpack}


def bench_size(artifact: Artifact, rivals: dict[str, Any]) -> dict[str, Any]:
    """Bytes of the artifact by file.

    Args:
        rivals: what `rival_sizes` gives for the artifact's method.
    """
    manifest = artifact.manifest
    names = ["manifest.json", *manifest.files]
    return {
        "method": manifest.method_info.name,
        "precision": manifest.backbone.precision,
        "model": manifest.backbone.name,
        "batch": manifest.shapes.batch,
        "seqs": list(manifest.shapes.seqs),
        "files": {name: (artifact.path / name).stat().st_size for name in names},
        **rivals,
    }


def rival_sizes(artifact: Artifact, source: str) -> dict[str, Any]:
    """Bytes of the fp32 weights and of ExecuTorch's stock programs for the same method.

    Returns:
        `rivals` by name, and `unavailable`: why one couldn't be made.
    """
    parameters = head_model(artifact, source).encoder.parameters()
    sizes = {WEIGHTS: 4 * sum(parameter.numel() for parameter in parameters)}
    unavailable = {}
    case = make_case(artifact, source, threads=1)
    for name, partitioner in _JOINT.items():
        try:
            sizes[name] = len(joint_program(case, partitioner))
        except Unavailable as reason:
            unavailable[name] = str(reason)
    return {"rivals": sizes, "unavailable": unavailable}
