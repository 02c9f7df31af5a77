"""T5: scores by distance, norms first and without means, no biases. Raffel et al., 1910.10683."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from effine.export.backbones import backbone, copy_blocks, copy_module
from effine.export.encoder import (
    Attention,
    Embeddings,
    Encoder,
    FeedForward,
    GatedFeedForward,
    PreNormBlock,
    RMSNorm,
)
from effine.export.positions import Buckets

_TRAINED_LENGTH = 512
"""Positions have no end, but T5 has seen no longer texts."""
_ATTENTION = {
    "attention.query": "layer.0.SelfAttention.q",
    "attention.key": "layer.0.SelfAttention.k",
    "attention.value": "layer.0.SelfAttention.v",
    "attention.output": "layer.0.SelfAttention.o",
    "attention_norm": "layer.0.layer_norm",
    "feed_forward_norm": "layer.1.layer_norm",
    "feed_forward.down": "layer.1.DenseReluDense.wo",
}
_PLAIN = {"feed_forward.up": "layer.1.DenseReluDense.wi"}
_GATED = {
    "feed_forward.up": "layer.1.DenseReluDense.wi_0",
    "feed_forward.gate": "layer.1.DenseReluDense.wi_1",
}


@backbone("t5")
def build(network: PreTrainedModel) -> Encoder:
    """Load a T5EncoderModel, or the encoder of a model with a decoder.

    All layers share the first one's table of scores by distance.
    """
    config = network.config
    embeddings = Embeddings(config.vocab_size, 0, 0, config.d_model)
    copy_module(embeddings.words, network.shared)
    layers, hub_names = copy_blocks(
        network,
        [f"encoder.block.{index}" for index in range(config.num_layers)],
        _ATTENTION | (_GATED if config.is_gated_act else _PLAIN),
        lambda: _empty_block(config),
    )
    distance = Buckets(
        config.relative_attention_num_buckets,
        config.num_heads,
        config.relative_attention_max_distance,
    )
    copy_module(
        distance.scores, network.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    )
    for layer in layers:
        layer.attention.distance = distance
    last: PreNormBlock = layers[-1]
    last.last_norm = _norm(config)
    copy_module(last.last_norm, network.encoder.final_layer_norm)
    return Encoder(
        "t5",
        embeddings,
        nn.Identity(),
        layers,
        max_positions=_TRAINED_LENGTH,
        pooling="mean",
        hub_names=hub_names,
    )


def _empty_block(config: PretrainedConfig) -> PreNormBlock:
    attention = Attention(
        config.d_model, config.num_heads, bias=False, width=config.d_kv, scale=1.0
    )
    kind = GatedFeedForward if config.is_gated_act else FeedForward
    feed_forward = kind(config.d_model, config.d_ff, config.dense_act_fn, bias=False)
    return PreNormBlock(attention, feed_forward, (_norm(config), _norm(config), nn.Identity()))


def _norm(config: PretrainedConfig) -> RMSNorm:
    return RMSNorm(config.d_model, config.layer_norm_epsilon)
