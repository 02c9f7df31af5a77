"""The network that rivals train: the same method in PyTorch, on the transformers model.

Pieces and trained layers are copies of effine's own, put into the network that
`AutoModel` loads with `sdpa` attention, so that both compute the same function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from effine.export.backbones import load_backbone, packaged_minilm
from effine.export.capture import MASK
from effine.export.encoder import ALL_TOKENS
from effine.export.errors import ExportError
from effine.export.methods import Method, make_method
from effine.export.methods.read import Read
from effine.export.methods.spartan import Memory
from effine.export.model import Model, group_of
from effine.export.optimizers import OPTIMIZERS
from effine.export.tasks import task_of
from effine.runtime.artifact import Artifact
from effine.runtime.manifest import Manifest

_NOISE = 0.02
_CLOSE = 5e-4
_LIKE_BERT = ("bert", "distilbert", "roberta", "xlm-roberta")


class TopKMemory(Memory):
    """A Memory that finds its parents by torch.topk, as one writes it for eager."""

    def kept(self, scores: Tensor) -> Tensor:
        """1 for the top k of scores [N, P] in each row, else 0."""
        best = scores.topk(int(self.top), dim=-1, sorted=False).indices
        return torch.zeros_like(scores).scatter_(-1, best, 1.0)


class RivalNetwork(nn.Module):
    """A transformers model with effine's pieces; frozen weights get no gradient.

    Args:
        model: what it copies: pieces, head and current parameters.
        source: the backbone as given at export.
        attention: the implementation of attention in transformers.

    Raises:
        ExportError: the method changes more than layers and what stands behind blocks, or
            the architecture isn't laid out as BERT is.
    """

    def __init__(self, model: Model, source: str, attention: str = "sdpa") -> None:
        super().__init__()
        if getattr(model.method.options, "placement", "") == "houlsby":
            raise ExportError("bench: no rival for placement=houlsby; use block or pfeiffer")
        if model.encoder.gates:
            raise ExportError("bench: no rival drops tokens; measure the pieces without gates")
        if model.encoder.architecture not in _LIKE_BERT:
            raise ExportError(
                f"bench: no rival for '{model.encoder.architecture}'; "
                f"known: {', '.join(_LIKE_BERT)}"
            )
        encoder = copy.deepcopy(model.encoder)
        self.network = _network(source, attention)
        for own, theirs in encoder.hub_names.items():
            self.network.set_submodule(theirs, encoder.get_submodule(own))
        self.network.embeddings.LayerNorm = encoder.embedding_norm
        layers = next(iter(encoder.hub_names.values())).split(".0.")[0]
        for layer, piece in zip(self.network.get_submodule(layers), encoder.pieces, strict=True):
            if not isinstance(piece, nn.Identity):
                layer.register_forward_hook(_behind(piece))
        for piece in encoder.pieces:
            if isinstance(piece, Memory):
                piece.__class__ = TopKMemory
        self.pieces = encoder.pieces
        self.side = encoder.side
        self.head = copy.deepcopy(model.head)
        self.task = model.task
        self.pooling = encoder.pooling
        self.first_only = isinstance(model.method, Read) and model.method.first_only(encoder)

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, C], or [B, S, C] for tasks on tokens, from token inputs [B, S]."""
        output = self.network(**tokens, output_hidden_states=self.side is not None)
        hidden = output.last_hidden_state
        if self.side is not None:
            states = output.hidden_states[1:]
            states = [s[:, 0] if self.first_only else s.flatten(0, 1) for s in states]
            corrected = self.side(states)
            if self.first_only:
                return self.head(corrected)
            hidden = corrected.view_as(hidden)
        return self.head(self._pool(hidden, tokens[MASK]))

    def loss(self, tokens: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """The mean loss of a batch without padding rows."""
        return self.task.reference_loss(self(tokens), labels).mean()

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == ALL_TOKENS:
            return hidden
        valid = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * valid).sum(dim=1) / valid.sum(dim=1)


class Positional(nn.Module):
    """A network as exporters want it: tensors in, one tensor out.

    Token inputs give logits [B, C]; with labels behind them, the mean loss.
    """

    def __init__(self, network: RivalNetwork, names: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits or loss from tensors in the order of the names."""
        tokens = dict(zip(self.names, inputs, strict=False))
        labels = inputs[len(self.names) :]
        return self.network.loss(tokens, *labels) if labels else self.network(tokens)


def reference_model(artifact: Artifact, source: str, *, perturbed: bool = False) -> Model:
    """effine's own model in eager PyTorch, with the artifact's initial parameters.

    Args:
        source: the backbone as given at export.
        perturbed: add noise, because new pieces start as zero and hide mistakes.
    """
    info = artifact.manifest.method_info
    model = _model(artifact, source, make_method(info.name, info.options, info.first_layer))
    load_parameters(model, artifact.initial_state())
    if perturbed:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=_NOISE)
    return model


def rival_network(artifact: Artifact, source: str, rival: str) -> RivalNetwork:
    """What `eager` trains, the artifact's method, or `full`: every weight under a new head."""
    if rival == "full":
        return RivalNetwork(head_model(artifact, source), source).requires_grad_()
    return RivalNetwork(reference_model(artifact, source), source)


def head_model(artifact: Artifact, source: str) -> Model:
    """The artifact's backbone under a new head, without any other piece."""
    return _model(artifact, source, make_method("head"))


def _model(artifact: Artifact, source: str, method: Method) -> Model:
    manifest = artifact.manifest
    backbone = load_backbone(source, manifest.backbone.pooling)
    if backbone.sha256 != manifest.backbone.sha256:
        raise ExportError(f"--model {source}: isn't the backbone of {artifact.path}")
    return Model(backbone.encoder, method, task_of(manifest.task))


def load_parameters(model: Model, state: Mapping[str, np.ndarray]) -> None:
    """Copy trained parameters by name; moments in `state` are ignored."""
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.copy_(torch.from_numpy(state[name].copy()))


def check_rival(rival: RivalNetwork, model: Model, tokens: Mapping[str, Tensor]) -> float:
    """The largest difference between the logits of both.

    Raises:
        ExportError: they don't compute the same function.
    """
    with torch.no_grad():
        own = model(model.features(tokens), tokens[MASK])
        theirs = rival(tokens)
    difference = float((own - theirs).abs().max())
    if difference > _CLOSE * max(1.0, float(own.abs().max())):
        raise ExportError(f"bench: the rival computes something else (logits differ {difference})")
    return difference


def torch_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], manifest: Manifest, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The manifest's optimizer from torch.optim, over the groups pieces and head.

    Args:
        fused: update by one kernel, which is what the transformers Trainer does.
    """
    settings = manifest.optimizer
    optimizer = OPTIMIZERS[settings.name](settings.weight_decay, settings.clip_norm)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault((group_of(name), parameter.dim() > 1), []).append(parameter)
    return optimizer.reference(
        [
            {
                "params": params,
                "group": group,
                "weight_decay": settings.weight_decay * decays,
                "fused": fused,
            }
            for (group, decays), params in groups.items()
        ]
    )


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, rates: Mapping[str, float], clip_norm: float
) -> None:
    """One update at the given rate of each group."""
    optimizer.zero_grad()
    loss.backward()
    if clip_norm:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(params, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = float(rates[group["group"]])
    optimizer.step()


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _network(source: str, attention: str) -> PreTrainedModel:
    path = packaged_minilm() if source == "minilm" else source
    network = AutoModel.from_pretrained(path, dtype=torch.float32, attn_implementation=attention)
    if hasattr(network, "pooler"):
        network.pooler = None
    return network.requires_grad_(False).eval()


def _behind(piece: nn.Module) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        return piece(output.flatten(0, 1)).view_as(output)

    return hook
