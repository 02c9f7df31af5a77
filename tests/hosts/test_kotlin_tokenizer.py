"""The Kotlin tokenizer gives what Hugging Face's gives: tokens, types, offsets and words."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import (
    AddedToken,
    Encoding,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from effine.export.backbones import packaged_minilm
from effine.export.unicode_tables import cluster_table
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.examples import Example
from effine.runtime.tokenize import Tokenizer as Reference
from texts import (
    LONG_WORDS,
    SENTENCES,
    assigned_code_points,
    changing_code_points,
    every_code_point,
    texts,
)

pytest_plugins = "runners"
TEXTS = 20_000
SPECIAL_PIECES = ("<s>", "<pad>", "</s>", "<unk>")

Text = str | tuple[str, str]


def expected(encoding: Encoding) -> list[object]:
    return [
        encoding.ids,
        encoding.type_ids,
        [list(offsets) for offsets in encoding.offsets],
        [-1 if word is None else word for word in encoding.word_ids],
        [-1 if sequence is None else sequence for sequence in encoding.sequence_ids],
    ]


def differences(
    jvm: JvmRunner, tokenizer: Path, inputs: Sequence[Text], folder: Path
) -> list[tuple[Text, object, object]]:
    source, result = folder / "texts.jsonl", folder / "encodings.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in inputs))
    jvm.run("tokenize", tokenizer, source, result)
    reference = Tokenizer.from_file(str(tokenizer))
    reference.no_truncation()
    reference.no_padding()
    lines = result.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(inputs)
    return [
        (text, wanted, found)
        for text, line in zip(inputs, lines, strict=True)
        if (found := json.loads(line))
        != (wanted := expected(reference.encode(*([text] if isinstance(text, str) else text))))
    ]


@pytest.fixture(scope="session")
def wordpiece() -> Path:
    return Path(packaged_minilm(), "tokenizer.json")


def changed(tokenizer: Path, target: Path, **normalizer: object) -> Path:
    document = json.loads(tokenizer.read_text(encoding="utf-8"))
    document["normalizer"] |= normalizer
    target.write_text(json.dumps(document), encoding="utf-8")
    return target


def test_mixed_texts(jvm: JvmRunner, wordpiece: Path, tmp_path: Path) -> None:
    assert not differences(jvm, wordpiece, texts(0, TEXTS), tmp_path)[:3]


def test_every_code_point(jvm: JvmRunner, wordpiece: Path, tmp_path: Path) -> None:
    assert not differences(jvm, wordpiece, every_code_point(), tmp_path)[:3]


def test_pairs(jvm: JvmRunner, wordpiece: Path, tmp_path: Path) -> None:
    both = list(zip(texts(1, 500), texts(2, 500)[::-1], strict=True))
    assert not differences(jvm, wordpiece, both, tmp_path)[:3]


@pytest.mark.parametrize(
    "normalizer",
    [
        {"lowercase": False},
        {"lowercase": True, "strip_accents": False},
        {"lowercase": False, "strip_accents": True, "clean_text": False},
        {"handle_chinese_chars": False},
    ],
)
def test_other_normalizers(
    jvm: JvmRunner, wordpiece: Path, tmp_path: Path, normalizer: dict[str, object]
) -> None:
    tokenizer = changed(wordpiece, tmp_path / "tokenizer.json", **normalizer)
    assert not differences(jvm, tokenizer, texts(3, 1000), tmp_path)[:3]


@pytest.mark.parametrize("length", [3, 8, 17])
def test_truncation(jvm: JvmRunner, wordpiece: Path, tmp_path: Path, length: int) -> None:
    """Long pairs and single texts, cut as the Python runtime cuts them."""
    draw = random.Random(length)
    inputs: list[Text] = [
        tuple(" ".join(["word", "x"] * draw.randrange(12)) for _ in range(2))  # type: ignore[misc]
        for _ in range(60)
    ]
    inputs += ["", "word " * 30, *SENTENCES]
    source, result = tmp_path / "texts.jsonl", tmp_path / "encodings.jsonl"
    source.write_text("".join(json.dumps(text) + "\n" for text in inputs))
    jvm.run("tokenize", wordpiece, source, result, "--max-length", str(length))
    found = [json.loads(line) for line in result.read_text().splitlines()]
    examples = [Example(*([text] if isinstance(text, str) else text)) for text in inputs]
    reference = Reference.from_file(wordpiece).encode(examples, length)
    for (ids, types, *_), tokens in zip(found, reference, strict=True):
        assert np.array_equal(ids, tokens.ids) and np.array_equal(types, tokens.type_ids)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RoBERTa's kind of tokenizer, learned from a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(4, 2000), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_byte_level_bpe(jvm: JvmRunner, byte_level: Path, tmp_path: Path) -> None:
    assert not differences(jvm, byte_level, texts(0, TEXTS), tmp_path)[:3]
    assert not differences(jvm, byte_level, every_code_point(), tmp_path)[:3]
    both = list(zip(texts(1, 500), texts(2, 500)[::-1], strict=True))
    assert not differences(jvm, byte_level, both, tmp_path)[:3]


@pytest.mark.parametrize("trim", [True, False])
def test_other_byte_level_options(
    jvm: JvmRunner, byte_level: Path, tmp_path: Path, trim: bool
) -> None:
    document = json.loads(byte_level.read_text())
    document["pre_tokenizer"]["add_prefix_space"] = True
    document["model"]["ignore_merges"] = True
    document["post_processor"] = {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": trim, "use_regex": True}
        ],
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    both: list[Text] = [*texts(5, 1000), *zip(texts(6, 200), texts(7, 200), strict=True)]
    assert not differences(jvm, path, both, tmp_path)[:3]


def learned_unigram(normalizer: normalizers.Normalizer) -> Tokenizer:
    """As XLM-R has it: spaces are split at, and each word gets a mark."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=2000,
        special_tokens=list(SPECIAL_PIECES),
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, *LONG_WORDS] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s>:1 $B:1 </s>:1",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


@pytest.fixture(scope="session")
def charsmap() -> bytes:
    """SentencePiece's own rules, which XLM-R and T5 take; ALBERT's differ in a few entries."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=1000,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    spec = ModelProto.FromString(model.getvalue()).normalizer_spec
    return bytes(spec.precompiled_charsmap)


@pytest.fixture(scope="session")
def unigram(charsmap: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unigram") / "tokenizer.json"
    learned_unigram(normalizers.Precompiled(charsmap)).save(str(path))
    return path


def test_unigram(jvm: JvmRunner, unigram: Path, tmp_path: Path) -> None:
    """Ways of cutting a long row of one character are equally good up to rounding."""
    both = list(zip(texts(1, 500), texts(2, 500)[::-1], strict=True))
    every: list[Text] = [*texts(0, TEXTS), *assigned_code_points(), *both, *LONG_WORDS]
    assert not differences(jvm, unigram, every, tmp_path)[:3]


def test_clusters(jvm: JvmRunner, unigram: Path, tmp_path: Path) -> None:
    """A cluster of at most 5 bytes becomes one X, a longer one an X for each code point."""
    document = json.loads(unigram.read_text())
    table = json.loads(normalizers.Precompiled(cluster_table()).__getstate__())
    document |= {"normalizer": table, "pre_tokenizer": None}
    document["added_tokens"] = document["added_tokens"][: len(SPECIAL_PIECES)]
    document["model"]["vocab"][len(SPECIAL_PIECES) :] = [["X", -1]]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    draw = random.Random(0)
    kinds = "a\r\n \xa9\u2764\U0001f469\u0301\u0308\u0903\u200c\u200d\ufe0f\u0600\u0915\u0937\u094d"
    kinds += "\u093c\u1100\u1161\u11a8\uac00\uac01\U0001f1e6\U0001f3fd\u00ad\U000110bd\u0e33"
    rows = ["".join(draw.choices(kinds, k=draw.randrange(1, 9))) for _ in range(6000)]
    assert not differences(jvm, path, [*rows, *texts(8, 1000)], tmp_path)[:3]


def as_albert(charsmap: bytes) -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Precompiled(charsmap),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )


def as_t5(charsmap: bytes) -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.Precompiled(charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "\u2581"),
        ]
    )


def canonical(charsmap: bytes) -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Strip(), normalizers.NFC()])


def compatible(charsmap: bytes) -> normalizers.Normalizer:
    return normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex("a+"), "xyz")]
    )


@pytest.mark.parametrize(
    ("normalizer", "metaspace", "fallback"),
    [
        (as_albert, {"prepend_scheme": "first"}, False),
        (as_t5, {"prepend_scheme": "always"}, True),
        (canonical, {"prepend_scheme": "first", "split": False}, False),
        (compatible, {"prepend_scheme": "never", "replacement": "_"}, True),
    ],
)
def test_other_unigrams(
    jvm: JvmRunner, unigram: Path, charsmap: bytes, tmp_path: Path, normalizer, metaspace, fallback
) -> None:
    """With bytes for what has no piece, and without."""
    document = json.loads(unigram.read_text())
    given = Tokenizer(models.Unigram())
    given.normalizer = normalizer(charsmap)
    document["normalizer"] = json.loads(given.to_str())["normalizer"]
    document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581"} | metaspace
    document["model"]["byte_fallback"] = fallback
    document["added_tokens"] = document["added_tokens"][: len(SPECIAL_PIECES)]
    document["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.5] for byte in range(256)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    every = [*texts(9, 1000), *changing_code_points()]
    assert not differences(jvm, path, every, tmp_path)[:3]
