"""Extract: trained pieces leave a checkpoint in the field's formats.

LoRA is written in PEFT form (adapter_config.json, adapter_model.safetensors), unless its
layers are parts of larger matrices in transformers (ModernBERT) or drop tokens. Other
methods have no such form: they get effine_config.json and pieces.safetensors. The head is
head.safetensors in both cases. What was written is read back into a fresh model, whose
logits must be equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from effine.export.backbones import load_backbone
from effine.export.capture import MASK
from effine.export.errors import ExportError
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.tasks import task_of
from effine.runtime.artifact import Artifact
from effine.runtime.checkpoint import Checkpoint
from effine.runtime.errors import ArtifactError, IncompatibleCheckpoint
from effine.runtime.manifest import Manifest

CONFIG = "effine_config.json"
PIECES = "pieces.safetensors"
HEAD = "head.safetensors"
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."

Tensors = dict[str, Tensor]


def extract(
    checkpoint: Path,
    artifact: Path | None,
    out: Path,
    *,
    model: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write the trained pieces of a checkpoint and prove that they reload.

    Args:
        artifact: what it was trained with; None searches beside the checkpoint and here.
        out: the directory to write.
        model: the backbone, where the manifest's name doesn't lead to it.
        force: replace files in an existing directory.

    Returns:
        The number of tensors and the largest difference between the logits.

    Raises:
        ExportError: the backbone isn't the artifact's, or the reloaded logits differ.
        IncompatibleCheckpoint: no artifact fits the checkpoint.
    """
    if out.exists() and any(out.iterdir()) and not force:
        raise ExportError(f"{out}: isn't empty; choose another --out or pass --force")
    opened = Artifact.open(artifact) if artifact else _matching(checkpoint)
    saved = Checkpoint.load(checkpoint, opened.manifest)
    if opened.manifest.parameters_in(saved.phase) != opened.manifest.parameters:
        raise ExportError(
            f"{checkpoint}: is in phase {saved.phase}, whose weights are regrouped; "
            "let the run finish"
        )
    params = {
        entry.name: torch.from_numpy(saved.state[entry.name].copy())
        for entry in opened.manifest.parameters
    }
    trained = _model(opened.manifest, model)
    before = _logits(trained, opened, params)
    out.mkdir(parents=True, exist_ok=True)
    _write(out, trained, opened.manifest, params, saved.labels)
    after = _logits(_model(opened.manifest, model), opened, read(out, trained))
    difference = float((before - after).abs().max())
    if difference != 0.0:
        raise ExportError(f"{out}: logits differ after reload by {difference:.3g}; don't use it")
    return {"tensors": len(params), "difference": difference}


def read(folder: Path, model: Model) -> Tensors:
    """Parameters by state name from a folder that `extract` wrote."""
    head = {f"head.{name}": tensor for name, tensor in load_file(folder / HEAD).items()}
    names = {peft: own for own, peft in _peft_names(model).items()}
    if not names:
        return head | load_file(folder / PIECES)
    weights = load_file(folder / PEFT_WEIGHTS)
    return head | {names[key]: tensor for key, tensor in weights.items()}


def _write(
    out: Path, model: Model, manifest: Manifest, params: Tensors, labels: tuple[str, ...]
) -> None:
    head = {name: tensor for name, tensor in params.items() if name.startswith("head.")}
    pieces = {name: tensor for name, tensor in params.items() if name not in head}
    save_file({name.removeprefix("head."): tensor for name, tensor in head.items()}, out / HEAD)
    config: Mapping[str, Any]
    names = _peft_names(model)
    if names:
        save_file({names[name]: tensor for name, tensor in pieces.items()}, out / PEFT_WEIGHTS)
        config = _peft_config(model, manifest)
        (out / PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    else:
        save_file(pieces, out / PIECES)
    config = {
        "effine_method": manifest.method_info.name,
        "options": dict(manifest.method_info.options),
        "first_layer": manifest.method_info.first_layer,
        "backbone": manifest.backbone.name,
        "backbone_sha256": manifest.backbone.sha256,
        "pooling": manifest.backbone.pooling,
        "labels": list(labels),
    }
    (out / CONFIG).write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _peft_names(model: Model) -> dict[str, str]:
    """State names of LoRA tensors to their keys in a PEFT file; empty where PEFT has no form."""
    names: dict[str, str] = {}
    if model.encoder.gates:
        return names
    for name in model.trainable():
        owner, _, leaf = name.removeprefix("encoder.").rpartition(".")
        if leaf in ("lora_A", "lora_B"):
            if owner not in model.encoder.hub_names:
                return {}
            names[name] = f"{_PEFT_PREFIX}{model.encoder.hub_names[owner]}.{leaf}.weight"
    return names


def _peft_config(model: Model, manifest: Manifest) -> dict[str, Any]:
    options = model.method.options
    hub_names = model.encoder.hub_names
    targets = sorted(
        hub_names[name.removeprefix("encoder.").rpartition(".")[0]] for name in _peft_names(model)
    )
    return {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": manifest.backbone.name,
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(set(targets)),
        "inference_mode": True,
    }


def _model(manifest: Manifest, source: str | None) -> Model:
    try:
        backbone = load_backbone(source or manifest.backbone.name, manifest.backbone.pooling)
    except ExportError as error:
        if source:
            raise
        raise ExportError(
            f"the backbone '{manifest.backbone.name}' isn't here; pass its place as --model"
        ) from error
    if backbone.sha256 != manifest.backbone.sha256:
        raise ExportError(
            f"--model {source or manifest.backbone.name}: these are not the weights that the "
            f"artifact was made from; name the right directory"
        )
    info = manifest.method_info
    method = make_method(info.name, dict(info.options), info.first_layer)
    return Model(backbone.encoder, method, task_of(manifest.task))


@torch.no_grad()
def _logits(model: Model, artifact: Artifact, params: Tensors) -> Tensor:
    """Logits of the golden run's first batch with these parameters."""
    expected = model.trainable()
    if set(params) != set(expected):
        missing = sorted(set(expected) ^ set(params))
        raise ExportError(f"the tensors don't fit the model: {missing[0]} is missing or unknown")
    for name, parameter in expected.items():
        parameter.copy_(params[name])
    golden = artifact.golden()
    tokens = {
        name: torch.from_numpy(golden[f"batch.0.{name}"].copy())
        for name in artifact.manifest.tokens.inputs
    }
    return model(model.features(tokens), tokens[MASK])


def _matching(checkpoint: Path) -> Artifact:
    """The artifact in the checkpoint's folder, or here, that the checkpoint fits."""
    for folder in (checkpoint.absolute().parent, Path.cwd()):
        for candidate in sorted(folder.glob("*.effine")):
            try:
                artifact = Artifact.open(candidate)
                Checkpoint.load(checkpoint, artifact.manifest)
            except (ArtifactError, IncompatibleCheckpoint):
                continue
            return artifact
    raise IncompatibleCheckpoint(
        f"{checkpoint}: no artifact beside it fits; name the one it was trained with: --artifact"
    )
