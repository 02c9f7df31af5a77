"""T5: scores by distance, norms first and without means, no biases. Raffel et al., 1910.10683."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from effine.export.backbones import backbone, copy_blocks, copy_linear, copy_module
from effine.export.decoder import Decoder, DecoderBlock
from effine.export.encoder import (
    ONE_STEP,
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
_BLOCK = {
    "attention.query": "layer.0.SelfAttention.q",
    "attention.key": "layer.0.SelfAttention.k",
    "attention.value": "layer.0.SelfAttention.v",
    "attention.output": "layer.0.SelfAttention.o",
    "attention_norm": "layer.0.layer_norm",
    "feed_forward_norm": "layer.1.layer_norm",
}
_FEED_FORWARD = {
    False: {"up": "wi", "down": "wo"},
    True: {"up": "wi_0", "gate": "wi_1", "down": "wo"},
}


@backbone("t5")
def build(network: PreTrainedModel) -> Encoder:
    """Load a T5EncoderModel, or a T5ForConditionalGeneration with its decoder.

    All layers share the first one's table of scores by distance.
    """
    config = network.config
    decoder = _decoder(network) if hasattr(network, "lm_head") else None
    embeddings = Embeddings(config.vocab_size, 0, 0, config.d_model)
    copy_module(embeddings.words, network.shared)
    layers, hub_names = copy_blocks(
        network,
        [f"encoder.block.{index}" for index in range(config.num_layers)],
        _BLOCK
        | {
            f"feed_forward.{ours}": f"layer.1.DenseReluDense.{theirs}"
            for ours, theirs in _FEED_FORWARD[config.is_gated_act].items()
        },
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
    last: Any = layers[-1]
    last.last_norm = _norm(config, network.encoder.final_layer_norm)
    return Encoder(
        "t5",
        embeddings,
        nn.Identity(),
        layers,
        max_positions=_TRAINED_LENGTH,
        pooling="mean" if decoder is None else ONE_STEP,
        hub_names=hub_names,
        decoder=decoder,
    )


def _empty_block(config: PretrainedConfig) -> PreNormBlock:
    norms = (_norm(config), _norm(config), nn.Identity())
    return PreNormBlock(_attention(config), _feed_forward(config), norms)


def _attention(config: PretrainedConfig) -> Attention:
    return Attention(config.d_model, config.num_heads, False, config.d_kv, scale=1.0)


def _feed_forward(config: PretrainedConfig) -> FeedForward:
    kind = GatedFeedForward if config.is_gated_act else FeedForward
    return kind(config.d_model, config.d_ff, config.dense_act_fn, bias=False)


def _norm(config: PretrainedConfig, source: nn.Module | None = None) -> RMSNorm:
    norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
    if source is not None:
        copy_module(norm, source)
    return norm


def _decoder(network: Any) -> Decoder:
    config = network.config
    layers = [_decoder_block(config, source.layer) for source in network.decoder.block]
    layers[-1].last_norm = _norm(config, network.decoder.final_layer_norm)
    return Decoder(
        layers,
        network.shared.weight[config.decoder_start_token_id],
        network.lm_head.weight,
        config.d_model**-0.5 if config.scale_decoder_outputs else 1.0,
    )


def _decoder_block(config: PretrainedConfig, parts: Any) -> DecoderBlock:
    own, across, last = parts
    crossing, feed_forward = _attention(config), _feed_forward(config)
    for target, source in (
        (crossing.query, across.EncDecAttention.q),
        (crossing.key, across.EncDecAttention.k),
        (crossing.value, across.EncDecAttention.v),
        (crossing.output, across.EncDecAttention.o),
        *(
            (feed_forward.get_submodule(name), last.DenseReluDense.get_submodule(theirs))
            for name, theirs in _FEED_FORWARD[config.is_gated_act].items()
        ),
    ):
        copy_module(target, source)
    return DecoderBlock(
        copy_linear(own.SelfAttention.v),
        copy_linear(own.SelfAttention.o),
        crossing,
        feed_forward,
        [*(_norm(config, part.layer_norm) for part in parts), nn.Identity()],
    )
