"""DistilBERT. Sanh et al., 1910.01108."""

from __future__ import annotations

from transformers import PreTrainedModel

from effine.export.backbones import backbone, copy_blocks, copy_module, copy_norm
from effine.export.encoder import Encoder
from effine.export.layers import Block, Embeddings

_EPS = 1e-12
_MODULES = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "feed_forward.up": "ffn.lin1",
    "feed_forward.down": "ffn.lin2",
    "attention_norm": "sa_layer_norm",
    "feed_forward_norm": "output_layer_norm",
}


@backbone("distilbert")
def build(network: PreTrainedModel) -> Encoder:
    """Load a DistilBertModel, which has no token types."""
    config = network.config
    embeddings = Embeddings(config.vocab_size, config.max_position_embeddings, 0, config.dim)
    source = network.embeddings
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    layers, hub_names = copy_blocks(
        network,
        [f"transformer.layer.{index}" for index in range(config.n_layers)],
        _MODULES,
        lambda: Block(config.dim, config.n_heads, config.hidden_dim, config.activation, _EPS),
    )
    return Encoder(
        "distilbert",
        embeddings,
        copy_norm(source.LayerNorm),
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )
