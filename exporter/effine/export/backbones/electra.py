"""ELECTRA's discriminator: BERT with narrower embeddings. Clark et al., 2003.10555."""

from __future__ import annotations

from transformers import PreTrainedModel

from effine.export.backbones import backbone, copy_linear, copy_norm
from effine.export.backbones.bert import copy_embeddings, copy_layers
from effine.export.encoder import Encoder
from effine.export.layers import norm_and_projection


@backbone("electra")
def build(network: PreTrainedModel) -> Encoder:
    """Load an ElectraModel, with its projection where the sizes differ."""
    config = network.config
    norm = copy_norm(network.embeddings.LayerNorm)
    narrow = config.embedding_size != config.hidden_size
    layers, hub_names = copy_layers(network)
    return Encoder(
        "electra",
        copy_embeddings(network, config.embedding_size),
        norm_and_projection(norm, copy_linear(network.embeddings_project)) if narrow else norm,
        layers,
        max_positions=config.max_position_embeddings,
        pooling="cls",
        hub_names=hub_names,
    )
