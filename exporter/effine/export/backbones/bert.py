"""BERT and the models that share its layout (MiniLM). Devlin et al., 1810.04805."""

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
from effine.export.layers import Block, Embeddings

_MODULES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward_norm": "output.LayerNorm",
}


@backbone("bert")
def build(network: PreTrainedModel) -> Encoder:
    """Load a BertModel; the unused pooler is left out."""
    config = network.config
    layers, hub_names = copy_layers(network)
    return Encoder(
        "bert",
        copy_embeddings(network, config.hidden_size),
        copy_norm(network.embeddings.LayerNorm),
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )


def copy_embeddings(network: PreTrainedModel, size: int) -> Embeddings:
    """The embeddings [V, size] of a model that has them as BERT has, token types included."""
    config, source = network.config, network.embeddings
    embeddings = Embeddings(
        config.vocab_size, config.max_position_embeddings, config.type_vocab_size, size
    )
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    copy_module(embeddings.token_types, source.token_type_embeddings)
    return embeddings


def copy_layers(network: PreTrainedModel) -> tuple[list[Block], dict[str, str]]:
    """The blocks of a model whose layers are BERT's; see `copy_blocks`."""
    config = network.config
    paths = [f"encoder.layer.{index}" for index in range(config.num_hidden_layers)]
    return copy_blocks(network, paths, _MODULES, lambda: post_norm_block(config))
