"""MPNet: scores by relative position in every layer. Song et al., 2004.09297."""

from __future__ import annotations

from transformers import PreTrainedModel

from effine.export.backbones import (
    backbone,
    copy_blocks,
    copy_module,
    copy_norm,
    post_norm_block,
)
from effine.export.encoder import Encoder
from effine.export.layers import Embeddings
from effine.export.positions import Buckets

_MODULES = {
    "attention.query": "attention.attn.q",
    "attention.key": "attention.attn.k",
    "attention.value": "attention.attn.v",
    "attention.output": "attention.attn.o",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "attention_norm": "attention.LayerNorm",
    "feed_forward_norm": "output.LayerNorm",
}


@backbone("mpnet")
def build(network: PreTrainedModel) -> Encoder:
    """Load an MPNetModel; all layers share the table of scores by distance."""
    config = network.config
    source = network.embeddings
    padding = source.padding_idx
    embeddings = Embeddings(
        config.vocab_size, config.max_position_embeddings, 0, config.hidden_size, padding
    )
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    layers, hub_names = copy_blocks(
        network,
        [f"encoder.layer.{index}" for index in range(config.num_hidden_layers)],
        _MODULES,
        lambda: post_norm_block(config),
    )
    distance = Buckets(config.relative_attention_num_buckets, config.num_attention_heads)
    copy_module(distance.scores, network.encoder.relative_attention_bias)
    for layer in layers:
        layer.attention.distance = distance
    return Encoder(
        "mpnet",
        embeddings,
        copy_norm(source.LayerNorm),
        layers,
        max_positions=config.max_position_embeddings - padding - 1,
        pooling="cls",
        hub_names=hub_names,
    )
