"""RoBERTa and XLM-R. Liu et al., 1907.11692; Conneau et al., 1911.02116."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from effine.export.backbones import backbone, copy_module, copy_norm
from effine.export.backbones.bert import copy_layers
from effine.export.encoder import Encoder
from effine.export.layers import Embeddings


@backbone("roberta", "xlm-roberta")
def build(network: PreTrainedModel) -> Encoder:
    """Load a RobertaModel; its only token type is added to the positions."""
    config = network.config
    padding = config.pad_token_id
    embeddings = Embeddings(
        config.vocab_size, config.max_position_embeddings, 0, config.hidden_size, padding
    )
    source = network.embeddings
    copy_module(embeddings.words, source.word_embeddings)
    copy_module(embeddings.positions, source.position_embeddings)
    with torch.no_grad():
        embeddings.positions.weight += source.token_type_embeddings.weight[0]
    layers, hub_names = copy_layers(network)
    return Encoder(
        config.model_type,
        embeddings,
        copy_norm(source.LayerNorm),
        layers,
        max_positions=config.max_position_embeddings - padding - 1,
        pooling="cls",
        hub_names=hub_names,
    )
