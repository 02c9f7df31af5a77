"""Words and tags: reading, where words start, entities, and words that are cut off."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import seqeval.metrics as reference
from seqeval.metrics.sequence_labeling import get_entities

from artifacts import Exported, slots
from commands import write
from effine.runtime.data import as_examples, load_examples
from effine.runtime.errors import DataError
from effine.runtime.examples import Example, fingerprint
from effine.runtime.tasks import find_task
from effine.runtime.tasks.token_classification import (
    IGNORED,
    TaggedText,
    TaggedWord,
    entities,
    entity_scores,
    firsts_of,
)
from effine.runtime.tokenize import Tokenizer
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from networks import small_tokenizer

TASK = "token-classification"
TAGS = ["O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b"]


def test_lists_and_columns_with_spaces_are_the_same(tmp_path: Path) -> None:
    rows = [{"tokens": ["play", "Flow"], "tags": ["O", "B-x"]}, {"tokens": ["a"], "tags": ["O"]}]
    expected = [
        Example("play Flow", words=("play", "Flow"), tags=("O", "B-x")),
        Example("a", words=("a",), tags=("O",)),
    ]
    (tmp_path / "a.csv").write_text("tokens,tags\nplay Flow,O B-x\na,O\n")
    (tmp_path / "a.tsv").write_text("tags\ttokens\nO  B-x\tplay  Flow\nO\ta\n")
    for path in (write(tmp_path / "a.jsonl", rows), tmp_path / "a.csv", tmp_path / "a.tsv"):
        found = load_examples(path, TASK)
        assert found == expected and found[0].origin.startswith(f"{path}, line ")
        assert fingerprint(found) == fingerprint(expected)
    assert as_examples(expected, TASK) == expected
    for texts in (["play Flow"], [["play", "Flow"]], [{"tokens": "play  Flow"}]):
        (found,) = as_examples(texts, TASK, labelled=False)
        assert found.words == ("play", "Flow") and found.tags is None
    assert fingerprint(expected) != fingerprint(expected[::-1])
    other = [Example("play Flow", words=("play", "Flow"), tags=("B-x", "O")), expected[1]]
    assert fingerprint(expected) != fingerprint(other)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens and 1 tags; give one tag for each"),
        ({"tokens": 3, "tags": ["O"]}, "tokens is 3, not a list"),
        ({"tokens": [], "tags": []}, "tokens is empty or has an empty entry"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "tokens is empty or has an empty entry"),
        ({"tokens": ["a", 3], "tags": ["O", "O"]}, "tokens is 3, not a string"),
        ({"tokens": ["a"]}, "no column 'tags'"),
        ({"text": "a", "tags": ["O"]}, "no column 'tokens'"),
    ],
)
def test_rows_that_can_not_be_used_are_named(tmp_path: Path, row: dict, problem: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": ["O"]}, row])
    with pytest.raises(DataError) as error:
        load_examples(path, TASK)
    assert str(error.value).startswith(f"{path}, line 2: {problem}")


def test_unequal_counts_in_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("tokens,tags\na b,O O\na b,O\n")
    with pytest.raises(DataError, match="line 3: 2 tokens and 1 tags"):
        load_examples(path, TASK)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20))
def test_entities_are_those_of_seqeval(seed: int) -> None:
    drawn = random.Random(seed)
    texts = [drawn.choices(TAGS, k=drawn.randint(1, 9)) for _ in range(60)]
    found = [[drawn.choice([tag, *TAGS]) for tag in tags] for tags in texts]
    for tags in texts:
        expected = [(label, start, end + 1) for label, start, end in get_entities(tags)]
        assert entities(tags) == expected
    scores = entity_scores(texts, found)
    assert list(scores) == ["entity_f1", "entity_precision", "entity_recall"]
    assert scores["entity_f1"] == pytest.approx(reference.f1_score(texts, found))
    assert scores["entity_precision"] == pytest.approx(reference.precision_score(texts, found))
    assert scores["entity_recall"] == pytest.approx(reference.recall_score(texts, found))


def test_tags_without_a_prefix_make_runs() -> None:
    assert entities(["x", "x", "O", "y"]) == [("x", 0, 2), ("y", 3, 4)]
    assert entities(["O"]) == []
    assert entity_scores([["O"]], [["O"]])["entity_f1"] == 0.0


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_a_tag_is_on_the_first_token_of_its_word(kind: str) -> None:
    words = ("wake", "me", "New York", "at", "se7en!", "lamp")
    tokenizer = Tokenizer(small_tokenizer(kind))
    tags = tuple(f"B-{index}" for index in range(len(words)))
    example = Example(" ".join(words), words=words, tags=tags)
    samples = find_task(TASK).samples([example], tokenizer, 64, tags, len(tags))
    encoding = tokenizer.align(example.text)
    firsts = firsts_of(samples.tokens[0])
    assert (np.diff(firsts) > 0).all() and samples.truncated == 0
    place = 0
    for word, first in zip(words, firsts.tolist(), strict=True):
        begin, end = encoding.offsets[first]
        assert word.startswith(example.text[begin:end].strip()) and begin <= place < end
        place += len(word) + 1
    expected = np.full(64, IGNORED)
    expected[firsts] = range(len(words))
    assert samples.labels[0].tolist() == expected.tolist()


def test_bert_splits_words_as_transformers_does(minilm) -> None:
    from transformers import AutoTokenizer

    from effine.export.backbones import packaged_minilm

    theirs = AutoTokenizer.from_pretrained(packaged_minilm())
    words = ["Pre-Party", "R&B", "Jams", "Español", "日本語", "don't", "playlist."]
    given = theirs(words, is_split_into_words=True)
    example = Example(" ".join(words), words=tuple(words))
    samples = find_task(TASK).samples([example], Tokenizer(minilm.tokenizer), 64)
    assert samples.tokens[0].ids.tolist() == given["input_ids"]
    places = [given.word_ids().index(index) for index in range(len(words))]
    assert firsts_of(samples.tokens[0]).tolist() == places


def test_words_that_are_cut_off_count_as_outside() -> None:
    tokenizer = Tokenizer(small_tokenizer("wordpiece"))
    words = ("lamp", "on", "lamp", "\u200b", "lamp")
    example = Example(" ".join(words), words=words, tags=("B-x", "O", "B-x", "O", "B-x"))
    task = find_task(TASK)
    samples = task.samples([example], tokenizer, 5, ["B-x", "O"], 2)
    firsts = firsts_of(samples.tokens[0])
    assert samples.truncated == 1 and (samples.labels >= 0).sum() == (firsts >= 0).sum() == 3
    logits = np.where(samples.labels[0][:5, None] == [0, 1], 5.0, 0.0).astype(np.float32)
    (found,) = task.predictions([logits], samples, ["B-x", "O"])
    assert isinstance(found, TaggedText) and found.choices == ("B-x", "O", "B-x", "O", "O")
    assert found.words[-1] == TaggedWord("lamp", "O", None)
    metrics = task.evaluate([logits], samples, ["B-x", "O"])
    assert metrics["entity_recall"] == pytest.approx(2 / 3) and metrics["entity_precision"] == 1
    assert metrics["tag_accuracy"] == pytest.approx(4 / 5)


def test_one_tag_for_all_words_is_a_warning() -> None:
    task = find_task(TASK)
    examples = as_examples([{"tokens": "a b", "tags": "O O"}], TASK)
    samples = task.samples(examples, Tokenizer(small_tokenizer("wordpiece")), 8, ["B-x", "O"], 2)
    same = np.tile(np.array([0.0, 1.0], np.float32), (4, 1))
    assert "every word" in (task.collapse([same], samples, ["B-x", "O"]) or "")
    same[1] = [1.0, 0.0]
    assert task.collapse([same], samples, ["B-x", "O"]) is None


@pytest.mark.parametrize("method", ["head", pytest.param("adapter", marks=pytest.mark.matrix)])
def test_training_predicting_and_resuming(artifact: Exported, tmp_path: Path, method: str) -> None:
    trainer = Trainer(artifact(method, "bert", TASK), threads=1)
    settings = {"head_rate": 0.1, "epochs": 10}
    report = trainer.fit(slots(), eval=slots(), **settings)
    assert report.metrics["entity_f1"] > 0.9 and report.truncated == 0
    long = ["lamp", "on"] * 12
    (whole,) = trainer.predict([long])
    assert [word.word for word in whole.words] == long
    assert [word.probability for word in whole.words[14:]] == [None] * 10
    assert (whole.words[0].tag, whole.words[1].tag) == ("B-lamp", "O")
    texts = [row["tokens"] for row in slots()]
    together = trainer.predict(texts)
    alone = [trainer.predict([text])[0] for text in texts[:3]]
    assert [p.choices for p in alone] == [p.choices for p in together[:3]]
    uncached = Trainer(artifact(method, "bert", TASK), threads=1, cache=False)
    uncached.fit(slots(), eval=slots(), **settings)
    assert all((uncached.state[name] == trainer.state[name]).all() for name in trainer.state)


def test_files_of_tokens_can_not_hold_it(artifact: Exported, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="learns from each token"):
        write_tokens(tmp_path / "a.tokens", artifact("head", "bert", TASK), slots())
