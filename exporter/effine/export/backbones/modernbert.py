"""ModernBERT: rotary positions, local and global attention, norms first. 2412.13663."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from effine.export.backbones import backbone, copy_module, copy_norm
from effine.export.encoder import Encoder
from effine.export.errors import ExportError
from effine.export.layers import Attention, Embeddings, GatedFeedForward, PreNormBlock
from effine.export.positions import Rotary, Window


@backbone("modernbert")
def build(network: PreTrainedModel) -> Encoder:
    """Load a ModernBertModel; its fused projections become separate ones."""
    config = network.config
    embeddings = Embeddings(config.vocab_size, 0, 0, config.hidden_size)
    copy_module(embeddings.words, network.embeddings.tok_embeddings)
    layers = [_block(network, index) for index in range(config.num_hidden_layers)]
    hub_names = {
        f"layers.{index}.{ours}": f"layers.{index}.{theirs}"
        for index in range(config.num_hidden_layers)
        for ours, theirs in (("attention.output", "attn.Wo"), ("feed_forward.down", "mlp.Wo"))
    }
    return Encoder(
        "modernbert",
        embeddings,
        copy_norm(network.embeddings.norm),
        layers,
        max_positions=config.max_position_embeddings,
        pooling=config.classifier_pooling,
        hub_names=hub_names,
    )


def _block(network: PreTrainedModel, index: int) -> PreNormBlock:
    config, source = network.config, network.layers[index]
    attention = Attention(config.hidden_size, config.num_attention_heads, config.attention_bias)
    _copy_parts([attention.query, attention.key, attention.value], source.attn.Wqkv)
    copy_module(attention.output, source.attn.Wo)
    kind = config.layer_types[index]
    attention.rotation = Rotary(_theta(config, kind))
    if kind == "sliding_attention":
        attention.distance = Window(config.sliding_window)
    feed_forward = GatedFeedForward(
        config.hidden_size, config.intermediate_size, config.hidden_activation, config.mlp_bias
    )
    _copy_parts([feed_forward.up, feed_forward.gate], source.mlp.Wi)
    copy_module(feed_forward.down, source.mlp.Wo)
    before = nn.Identity() if index == 0 else copy_norm(source.attn_norm)
    last = index == config.num_hidden_layers - 1
    behind = copy_norm(network.final_norm) if last else nn.Identity()
    return PreNormBlock(attention, feed_forward, (before, copy_norm(source.mlp_norm), behind))


def _theta(config: PretrainedConfig, kind: str) -> float:
    settings = config.rope_parameters[kind]
    if settings["rope_type"] != "default":
        raise ExportError(
            f"--model: rotary positions of type '{settings['rope_type']}' are not known; "
            "known: default"
        )
    return float(settings["rope_theta"])


@torch.no_grad()
def _copy_parts(targets: Sequence[nn.Linear], fused: nn.Linear) -> None:
    """Copy equal parts of a fused projection's rows."""
    for name, tensor in fused.named_parameters():
        for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
            target.get_parameter(name).copy_(part)
