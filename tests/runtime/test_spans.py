"""Questions and contexts: reading, windows, the best span, and SQuAD's metrics."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from torchmetrics.functional.text import squad

from artifacts import Exported, questions
from commands import write
from effine.runtime.data import as_examples, load_examples
from effine.runtime.errors import DataError
from effine.runtime.examples import Answer, Example, fingerprint
from effine.runtime.tasks import Samples, find_task
from effine.runtime.tasks.question_answering import (
    LONGEST,
    FoundAnswer,
    exact_match,
    spans_of,
    token_f1,
)
from effine.runtime.tokenize import Tokenizer
from effine.runtime.trainer import Trainer
from networks import small_tokenizer

NAME = "question-answering"
TASK = find_task(NAME)
KINDS = ("wordpiece", "bpe", "unigram")
CONTEXT = "The lamp is in the Kitchen, on  the small table; the alarm went off at seven. " * 3
ROW = {"question": "where is the lamp", "context": CONTEXT}


def example(text: str, nth: int = 0) -> Example:
    start = -1
    for _ in range(nth + 1):
        start = CONTEXT.index(text, start + 1)
    answers = [{"text": text, "start": start}]
    return as_examples([ROW | {"answers": answers}], NAME)[0]


def samples_of(given: Example, kind: str = "wordpiece", length: int = 40) -> Samples:
    return TASK.samples([given], Tokenizer(small_tokenizer(kind)), length, [], 0)


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    answers = [{"text": "a b", "start": 2}, {"text": "b", "start": 4}]
    row = {"question": "what", "context": "x a b", "answers": answers}
    expected = [Example("what", "x a b", answers=(Answer("a b", 2), Answer("b", 4)))]
    quoted = json.dumps(answers).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'question,context,answers\nwhat,x a b,"{quoted}"\n')
    for path in (write(tmp_path / "a.jsonl", [row]), tmp_path / "a.csv"):
        assert load_examples(path, NAME) == expected
    assert as_examples(expected, NAME) == expected
    (bare,) = as_examples([{"question": "what", "context": "x"}], NAME, labelled=False)
    assert bare == Example("what", "x")
    others = [Example("what", "x a b", answers=(Answer("b", 4),)), bare, *expected]
    assert len({fingerprint([other]) for other in others}) == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answers": []}, "answers is [], not a list with an answer"),
        ({"answers": "no"}, "answers is not JSON"),
        ({"answers": [{"text": "a"}]}, "answer {'text': 'a'} is not an object with text and start"),
        ({"answers": [{"text": "a", "start": "1"}]}, "start is '1', not a whole number"),
        ({"answers": [{"text": "b", "start": 0}]}, "answer 'b' is not in the context at charac"),
        ({"answers": [{"text": "", "start": 0}]}, "answer '' is not in the context"),
        ({"answers": [{"text": "a", "start": -1}]}, "answer 'a' is not in the context"),
        ({"question": " "}, "question is empty"),
        ({"context": 5}, "context is 5, not a string"),
    ],
)
def test_rows_that_can_not_be_used_are_named(tmp_path: Path, change: dict, problem: str) -> None:
    row = {"question": "q", "context": "a", "answers": [{"text": "a", "start": 0}]}
    path = write(tmp_path / "a.jsonl", [row, row | change])
    with pytest.raises(DataError) as error:
        load_examples(path, NAME)
    assert str(error.value).startswith(f"{path}, line 2: {problem}")
    with pytest.raises(DataError, match=r'give \{"question"'):
        as_examples(["where?"], NAME, labelled=False)


@pytest.mark.parametrize("length", [20, 33, 40, 400])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_cover_the_context_and_mark_the_answer(kind: str, length: int) -> None:
    answer = "the small table"
    samples = samples_of(example(answer, 1), kind, length)
    assert (samples.owners == 0).all() and (len(samples) == 1) == (length == 400)
    whole = Tokenizer(small_tokenizer(kind)).align(ROW["question"], CONTEXT)
    context = [tuple(span) for span in whole.offsets[whole.parts == 1].tolist()]
    seen = [tuple(span) for t in samples.tokens for span in spans_of(t).tolist() if span[0] >= 0]
    assert set(seen) == set(context)
    start = CONTEXT.index(answer, CONTEXT.index(answer) + 1)
    for tokens, target in zip(samples.tokens, samples.labels, strict=True):
        size = len(tokens.ids)
        assert size <= length and (target[:, size:] == -1).all()
        assert (target[:, :size].sum(axis=1) == 1).all() and target[:, :size].min() == 0
        first, last = target.argmax(axis=1)
        spans = spans_of(tokens)
        marked = CONTEXT[spans[first, 0] : spans[last, 1]].strip() if first else ""
        covered = spans[spans[:, 0] >= 0]
        inside = covered[0, 0] <= start and covered[-1, 1] >= start + len(answer)
        assert marked == (answer if inside else "")


def test_neighbours_share_a_third_of_a_window() -> None:
    samples = samples_of(example("Kitchen"), "wordpiece", 33)
    rows = [{tuple(s) for s in spans_of(t).tolist() if s[0] >= 0} for t in samples.tokens]
    assert all(len(a & b) == len(a) // 3 for a, b in itertools.pairwise(rows[:-1]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_span_is_found_over_windows(kind: str) -> None:
    answer = "the small table"
    samples = samples_of(example(answer, 2), kind, 40)
    outputs = [
        np.where(target[:, : len(t.ids)].T > 0, 6.0, 0.0).astype(np.float32)
        for t, target in zip(samples.tokens, samples.labels, strict=True)
    ]
    (found,) = TASK.predictions(outputs, samples, [])
    assert isinstance(found, FoundAnswer) and found.text == answer
    assert found.text == CONTEXT[found.start : found.end] and 0.9 < found.probability <= 1
    assert found.choices == ((found.start, found.end),) and str(found).startswith(answer)
    assert TASK.evaluate(outputs, samples, []) == {"f1": 1.0, "exact_match": 1.0}


def test_the_best_span_is_that_of_a_plain_search() -> None:
    random = np.random.default_rng(0)
    samples = samples_of(example("Kitchen"), "wordpiece", 60)
    outputs = [random.normal(size=(len(t.ids), 2)).astype(np.float32) for t in samples.tokens]
    scores = {}
    for tokens, logits in zip(samples.tokens, outputs, strict=True):
        spans = spans_of(tokens)
        inside = np.flatnonzero(spans[:, 0] >= 0)
        for first in inside:
            for last in inside[(inside >= first) & (inside < first + LONGEST)]:
                place = (int(spans[first, 0]), int(spans[last, 1]))
                total = float(logits[first, 0]) + float(logits[last, 1])
                scores.setdefault(place, []).append(total)
    best = max(scores, key=lambda place: max(scores[place]))
    (found,) = TASK.predictions(outputs, samples, [])
    assert (found.start, found.end) == best
    every = np.array([score for own in scores.values() for score in own])
    assert found.probability == pytest.approx(np.exp(max(every)) / np.exp(every).sum())


def test_a_long_question_leaves_half_to_the_context() -> None:
    row = {"question": "lamp " * 50, "context": "on off", "answers": [{"text": "off", "start": 3}]}
    examples = as_examples([row], NAME)
    samples = TASK.samples(examples, Tokenizer(small_tokenizer("wordpiece")), 20, [], 0)
    assert samples.truncated == 1 and len(samples) == 1
    assert samples.labels[0, 0, : len(samples.tokens[0].ids)].argmax() > 0
    with pytest.raises(DataError, match="longer --seq"):
        TASK.samples(examples, Tokenizer(small_tokenizer("wordpiece")), 5, [], 0)


@pytest.mark.parametrize(
    ("found", "answers"),
    [
        ("The Kitchen!", ["kitchen"]),
        ("in the kitchen", ["kitchen", "the small kitchen"]),
        ("an apple a day", ["the apple, a day"]),
        ("308", ["3 08"]),
        ("x", ["y"]),
        ("the", ["a"]),
        ("b b c", ["b c c"]),
        ("co-operate  now", ["cooperate now", "operate"]),
    ],
)
def test_metrics_are_squads(found: str, answers: list[str]) -> None:
    target = {"answers": {"answer_start": [0], "text": answers}, "id": "1"}
    expected = squad([{"prediction_text": found, "id": "1"}], [target])
    assert 100 * max(token_f1(found, a) for a in answers) == pytest.approx(float(expected["f1"]))
    matched = max(exact_match(found, answer) for answer in answers)
    assert 100 * matched == pytest.approx(float(expected["exact_match"]))


def test_training_and_predicting(artifact: Exported) -> None:
    trainer = Trainer(artifact("adapter", "bert", NAME), threads=1)
    report = trainer.fit(questions(), eval=questions(), piece_rate=5e-3, head_rate=0.05, epochs=15)
    assert report.metrics["f1"] > max(0.5, report.before["f1"]) and report.warnings == []
    rows = [{name: row[name] for name in ("question", "context")} for row in questions()]
    together = trainer.predict(rows)
    for row, found in zip(rows, together, strict=True):
        assert row["context"][found.start : found.end] == found.text
    assert [trainer.predict([row])[0].choices for row in rows[:2]] == [
        found.choices for found in together[:2]
    ]
    long = rows[0] | {"context": "then it was late again. " * 5 + rows[0]["context"]}
    (found,) = trainer.predict([long])
    assert long["context"][found.start : found.end] == found.text != ""
