"""T5: scores by distance, norms first and without means, no biases. Raffel et al., 1910.10683."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from effine.export.backbones import backbone, copy_blocks, copy_module
from effine.export.decoder import Decoder, DecoderBlock
from effine.export.encoder import ONE_STEP, Encoder
from effine.export.layers import (
    Attention,
    Embeddings,
    FeedForward,
    GatedFeedForward,
    PreNormBlock,
    RMSNorm,
)
from effine.export.positions import Buckets

_TRAINED_LENGTH = 512
"""Positions have no end, but T5 has seen no longer texts."""
_ENCODER_BLOCK = {
    "attention.query": "layer.0.SelfAttention.q",
    "attention.key": "layer.0.SelfAttention.k",
    "attention.value": "layer.0.SelfAttention.v",
    "attention.output": "layer.0.SelfAttention.o",
    "attention_norm": "layer.0.layer_norm",
    "feed_forward_norm": "layer.1.layer_norm",
}
_DECODER_BLOCK = {
    "value": "layer.0.SelfAttention.v",
    "output": "layer.0.SelfAttention.o",
    "crossing.query": "layer.1.EncDecAttention.q",
    "crossing.key": "layer.1.EncDecAttention.k",
    "crossing.value": "layer.1.EncDecAttention.v",
    "crossing.output": "layer.1.EncDecAttention.o",
    "value_norm": "layer.0.layer_norm",
    "crossing_norm": "layer.1.layer_norm",
    "feed_forward_norm": "layer.2.layer_norm",
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
        _ENCODER_BLOCK | _feed_forward_names(config, "layer.1"),
        lambda: _encoder_block(config),
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
    layers[-1].last_norm = _norm(config, network.encoder.final_layer_norm)
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


def _decoder(network: PreTrainedModel) -> Decoder:
    config = network.config
    layers, _ = copy_blocks(
        network,
        [f"decoder.block.{index}" for index in range(config.num_decoder_layers)],
        _DECODER_BLOCK | _feed_forward_names(config, "layer.2"),
        lambda: _decoder_block(config),
    )
    layers[-1].last_norm = _norm(config, network.decoder.final_layer_norm)
    return Decoder(
        layers,
        network.shared.weight[config.decoder_start_token_id],
        network.lm_head.weight,
        config.d_model**-0.5 if config.scale_decoder_outputs else 1.0,
    )


def _feed_forward_names(config: PretrainedConfig, place: str) -> dict[str, str]:
    return {
        f"feed_forward.{ours}": f"{place}.DenseReluDense.{theirs}"
        for ours, theirs in _FEED_FORWARD[config.is_gated_act].items()
    }


def _encoder_block(config: PretrainedConfig) -> PreNormBlock:
    norms = (_norm(config), _norm(config), nn.Identity())
    return PreNormBlock(_attention(config), _feed_forward(config), norms)


def _decoder_block(config: PretrainedConfig) -> DecoderBlock:
    width = config.num_heads * config.d_kv
    return DecoderBlock(
        nn.Linear(config.d_model, width, bias=False),
        nn.Linear(width, config.d_model, bias=False),
        _attention(config),
        _feed_forward(config),
        (_norm(config), _norm(config), _norm(config), nn.Identity()),
    )


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
