"""ALBERT: layers that share their weights, and narrow embeddings. Lan et al., 1909.11942."""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel

from effine.export.backbones import (
    backbone,
    copy_blocks,
    copy_linear,
    copy_norm,
    post_norm_block,
)
from effine.export.backbones.bert import copy_embeddings
from effine.export.encoder import Encoder
from effine.export.layers import norm_and_projection

_MODULES = {
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.output": "attention.dense",
    "feed_forward.up": "ffn",
    "feed_forward.down": "ffn_output",
    "attention_norm": "attention.LayerNorm",
    "feed_forward_norm": "full_layer_layer_norm",
}


@backbone("albert")
def build(network: PreTrainedModel) -> Encoder:
    """Load an AlbertModel; a layer that runs n times is n times the same block."""
    config = network.config
    projection = copy_linear(network.encoder.embedding_hidden_mapping_in)
    layers, hub_names = copy_blocks(
        network, _paths(config), _MODULES, lambda: post_norm_block(config)
    )
    return Encoder(
        "albert",
        copy_embeddings(network, config.embedding_size),
        norm_and_projection(copy_norm(network.embeddings.LayerNorm), projection),
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )


def _paths(config: PretrainedConfig) -> list[str]:
    """The layers in the order in which they run."""
    groups, depth = config.num_hidden_groups, config.num_hidden_layers
    return [
        f"encoder.albert_layer_groups.{index * groups // depth}.albert_layers.{inner}"
        for index in range(depth)
        for inner in range(config.inner_group_num)
    ]
