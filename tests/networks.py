"""Small random transformers models of every architecture, with tokenizers to match."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from artifacts import intents
from effine.export.backbones import packaged_minilm

HIDDEN, NARROW, HEADS, WIDTH, POSITIONS = 32, 16, 2, 64, 64
MINILM_VOCABULARY, VOCABULARY = 30522, 320
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TOKENIZERS = {
    "bert": "minilm",
    "distilbert": "minilm",
    "electra": "minilm",
    "mpnet": "wordpiece",
    "roberta": "bpe",
    "modernbert": "bpe",
    "xlm-roberta": "unigram",
    "albert": "unigram",
    "t5": "sentence-end",
}
ARCHITECTURES = tuple(TOKENIZERS)
NEW = tuple(name for name in ARCHITECTURES if name not in ("bert", "distilbert"))


def tiny_network(architecture: str, layers: int = 2, **settings: Any) -> PreTrainedModel:
    """A model whose weights depend on nothing but the arguments."""
    torch.manual_seed(0)
    if architecture == "distilbert":
        config = DistilBertConfig(
            vocab_size=MINILM_VOCABULARY,
            dim=HIDDEN,
            n_layers=layers,
            n_heads=HEADS,
            hidden_dim=WIDTH,
            max_position_embeddings=POSITIONS,
            initializer_range=0.1,
        )
        return DistilBertModel(config).eval()
    if architecture == "t5":
        return tiny_t5(T5EncoderModel, layers, **settings)
    model_type, config_type, own = _KINDS[architecture]
    small = TOKENIZERS[architecture] != "minilm"
    common = {
        "vocab_size": VOCABULARY if small else MINILM_VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDTH,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.1,
    }
    network = model_type(config_type(**(common | own | settings)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    return network.eval()


def tiny_t5(kind: type[PreTrainedModel], layers: int = 2, **settings: Any) -> PreTrainedModel:
    """A T5 of some kind, whose heads don't divide the hidden size and whose decoder is deeper."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": HIDDEN,
        "d_kv": 24,
        "d_ff": WIDTH,
        "num_layers": layers,
        "num_decoder_layers": layers + 1,
        "num_heads": HEADS,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    network = kind(T5Config(**(sizes | settings)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter.uniform_(0.5, 1.5)
    return network.eval()


_ONE_PAD = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertModel, BertConfig, {}),
    "electra": (ElectraModel, ElectraConfig, {"embedding_size": NARROW}),
    "roberta": (RobertaModel, RobertaConfig, {**_ONE_PAD, "type_vocab_size": 1}),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig, {**_ONE_PAD, "type_vocab_size": 1}),
    "albert": (AlbertModel, AlbertConfig, {**_ONE_PAD, "embedding_size": NARROW}),
    "mpnet": (MPNetModel, MPNetConfig, _ONE_PAD),
    "modernbert": (
        ModernBertModel,
        ModernBertConfig,
        {
            **_ONE_PAD,
            "cls_token_id": 0,
            "sep_token_id": 2,
            "local_attention": 6,
            "layer_types": None,
            "global_attn_every_n_layers": 2,
        },
    ),
}


def save_tiny(architecture: str, path: Path, layers: int = 2) -> None:
    """Write a tiny model and its tokenizer into a directory."""
    network = tiny_network(architecture, layers)
    if architecture == "t5":
        network = tiny_t5(T5ForConditionalGeneration, layers)
    network.save_pretrained(path)
    kind = TOKENIZERS[architecture]
    if kind == "minilm":
        AutoTokenizer.from_pretrained(packaged_minilm()).save_pretrained(path)
        return
    fast = PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(kind),
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    fast.save_pretrained(path)


def small_tokenizer(kind: str) -> Tokenizer:
    """A `bpe` (byte-level), `unigram` or `wordpiece` tokenizer trained on the sample intents.

    Single texts are `<s> a </s>`. Pairs are `<s> a </s> </s> b </s>`, with token types 0 and
    1 for Unigram alone, which ALBERT uses. `sentence-end` is Unigram as T5 has it: `a </s>` and
    `a </s> b </s>`.
    """
    options: dict[str, Any] = {"vocab_size": VOCABULARY, "special_tokens": SPECIAL}
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            **options, initial_alphabet=alphabet, show_progress=False
        )
    elif kind in ("unigram", "sentence-end"):
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(**options, unk_token="<unk>", show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**options, show_progress=False)
    tokenizer.train_from_iterator(_sentences(), trainer)
    second = 1 if kind == "unigram" else 0
    single, pair = "<s> $A </s>", f"<s> $A </s> </s>:{second} $B:{second} </s>:{second}"
    if kind == "sentence-end":
        single, pair = "$A </s>", "$A </s> $B </s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _sentences() -> Iterator[str]:
    return (row["text"] for row in intents())
