"""ELECTRA's discriminator: BERT with narrower embeddings. Clark et al., 2003.10555."""

from __future__ import annotations

from transformers import PreTrainedModel

from effine.export.backbones import (
    backbone,
    copy_blocks,
    copy_linear,
    copy_module,
    copy_norm,
    post_norm_block,
)
from effine.export.backbones.bert import MODULES
from effine.export.encoder import Embeddings, Encoder, norm_and_projection


@backbone("electra")
def build(network: PreTrainedModel) -> Encoder:
    """Load an ElectraModel, with its projection where the sizes differ."""
    config = network.config
    embeddings = Embeddings(
        config.vocab_size,
        config.max_position_embeddings,
        config.type_vocab_size,
        config.embedding_size,
    )
    source = network.embeddings
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    copy_module(embeddings.token_types, source.token_type_embeddings)
    norm = copy_norm(source.LayerNorm)
    narrow = config.embedding_size != config.hidden_size
    layers, hub_names = copy_blocks(
        network,
        [f"encoder.layer.{index}" for index in range(config.num_hidden_layers)],
        MODULES,
        lambda: post_norm_block(config),
    )
    return Encoder(
        "electra",
        embeddings,
        norm_and_projection(norm, copy_linear(network.embeddings_project)) if narrow else norm,
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )
