"""BERT and the models that share its layout (MiniLM). Devlin et al., 1810.04805."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from effine.export.backbones import backbone, copy_blocks, copy_module
from effine.export.encoder import Block, Embeddings, Encoder

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
    norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
    copy_module(norm, source.LayerNorm)
    layers, hub_names = copy_blocks(
        network.encoder.layer,
        "encoder.layer",
        _MODULES,
        lambda: Block(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.hidden_act,
            config.layer_norm_eps,
        ),
    )
    return Encoder(
        "bert",
        embeddings,
        norm,
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )
