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
from effine.export.encoder import Embeddings, Encoder

MODULES = {
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
    embeddings = Embeddings(
        config.vocab_size,
        config.max_position_embeddings,
        config.type_vocab_size,
        config.hidden_size,
    )
    source = network.embeddings
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    copy_module(embeddings.token_types, source.token_type_embeddings)
    layers, hub_names = copy_blocks(
        network,
        [f"encoder.layer.{index}" for index in range(config.num_hidden_layers)],
        MODULES,
        lambda: post_norm_block(config),
    )
    return Encoder(
        "bert",
        embeddings,
        copy_norm(source.LayerNorm),
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )
