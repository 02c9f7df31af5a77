"""The part of a context that answers a question: columns `question`, `context`, `answers`.

`answers` is a list of `{"text": ..., "start": ...}` with the character in the context that the
text starts at; in CSV and TSV it is JSON. The first is learned, and any of them is right.

A context that doesn't fit is cut into windows which overlap by a third, each of them a sample
with the whole question. Where a window doesn't hold the answer, its first token (CLS) is learned.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Answer, Example, Row, checked_text, shown
from effine.runtime.predictions import Prediction
from effine.runtime.tasks import Samples, Task, task
from effine.runtime.tokenize import Encoding, Tokenizer, Tokens

LONGEST = 30
"""Tokens of the longest answer that is looked for."""
_OVERLAP = 3
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_FINAL_SIGMA, _SIGMA = "\u03c2", "\u03c3"


@dataclass(frozen=True)
class Window(Tokens):
    """A question and a part of its context.

    `spans` [L, 2] int64 are the characters of the context that each token covers, from and
    up to; -1 for all other tokens.
    """

    spans: np.ndarray


@dataclass(frozen=True)
class FoundAnswer(Prediction):
    """The likeliest answer, from character `start` up to, not including, `end`.

    `probability` is its share among all spans of at most `LONGEST` tokens.
    """

    text: str
    start: int
    end: int
    probability: float

    @property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """The place."""
        return ((self.start, self.end),)

    def __str__(self) -> str:
        """The text with its probability and place."""
        return f"{self.text}  {self.probability:.3f}  (characters {self.start} to {self.end})"


@task
class QuestionAnswering(Task):
    """SQuAD's F1 and exact match; outputs [L, 2] score each token as the first and the last."""

    name = "question-answering"
    metrics = ("f1", "exact_match")
    inputs = ("question", "context")
    target = "answers"
    labelled = False
    per_token = True
    hint = '{"question": ..., "context": ...} with its answers'

    def read(self, row: Row, labelled: bool) -> Example:
        """The question as text, the context as text_b."""
        question, context = row.text("question"), row.text("context")
        for column, text in (("question", question), ("context", context)):
            if not text.strip():
                raise DataError(f"{row.origin}: {column} is empty; fill it in or remove the line")
        answers = _answers(row, context) if labelled else None
        return Example(question, context, answers=answers, origin=row.origin)

    def row(self, example: Example) -> dict[str, object]:
        """The columns of an example."""
        answers = example.answers and [vars(answer) for answer in example.answers]
        return {"question": example.text, "context": example.text_b, "answers": answers}

    def bare_row(self, item: object) -> Mapping[str, object] | None:
        """None: a text alone asks nothing."""
        return None

    def outputs(self, labels: Sequence[str]) -> int:
        """First and last token."""
        return 2

    def samples(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        max_length: int,
        labels: Sequence[str] | None = None,
        rows: int = 0,
    ) -> Samples:
        """Windows; labels [N, 2, max_length] float32.

        They are 1 where the answer starts (row 0) and ends (row 1), -1 beyond the tokens.

        Raises:
            DataError: nothing of a context fits beside its question.
        """
        windows: list[Window] = []
        owners: list[int] = []
        truncated = 0
        for index, example in enumerate(examples):
            whole = tokenizer.align(example.text, example.text_b)
            encoding = _shortened(whole, max_length)
            truncated += len(encoding.ids) < len(whole.ids)
            made = list(_windows(encoding, max_length))
            windows += made
            owners += [index] * len(made)
        targets: np.ndarray = np.zeros(len(windows), np.float32)
        if labels is not None:
            targets = np.full((len(windows), 2, max_length), -1, np.float32)
            for target, window, owner in zip(targets, windows, owners, strict=True):
                _mark(target, window, (examples[owner].answers or ())[0])
        return Samples(examples, windows, np.array(owners, np.int64), targets, truncated)

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """Means over the questions, each by the answer that suits best."""
        pairs = [
            (found.text, [answer.text for answer in example.answers or ()])
            for found, example in zip(
                self.predictions(outputs, samples, labels), samples.examples, strict=True
            )
        ]
        scores = {"f1": token_f1, "exact_match": exact_match}
        return {
            name: float(np.mean([max(score(text, a) for a in answers) for text, answers in pairs]))
            for name, score in scores.items()
        }

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[FoundAnswer]:
        """The best span over all windows of each context."""
        windows: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in samples.examples]
        for owner, tokens, logits in zip(samples.owners, samples.tokens, outputs, strict=True):
            windows[owner].append((spans_of(tokens), logits))
        return [
            _best(example.text_b or "", own)
            for example, own in zip(samples.examples, windows, strict=True)
        ]


def normalised(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, articles or extra spaces.

    Rajpurkar et al., 1606.05250, section 6.1. Which sigma is final would depend on the text around
    it, so that all are the same.
    """
    lower = text.lower().replace(_FINAL_SIGMA, _SIGMA)
    return " ".join(_ARTICLES.sub(" ", lower.translate(_PUNCTUATION)).split())


def exact_match(found: str, answer: str) -> float:
    """1 if both have the same normal form, else 0."""
    return float(normalised(found) == normalised(answer))


def token_f1(found: str, answer: str) -> float:
    """F1 of the words of both normal forms as bags; if one has none, whether both have none."""
    a, b = normalised(found).split(), normalised(answer).split()
    if not a or not b:
        return float(a == b)
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b))


def spans_of(tokens: Tokens) -> np.ndarray:
    """The characters of each token of a sample of this task, [L, 2]."""
    assert isinstance(tokens, Window)
    return tokens.spans


def _answers(row: Row, context: str) -> tuple[Answer, ...]:
    value = row.values["answers"]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(
                f'{row.origin}: answers is not JSON; write [{{"text": "...", "start": 0}}]'
            ) from None
    if not isinstance(value, list | tuple) or not value:
        raise DataError(
            f"{row.origin}: answers is {shown(value)}, not a list with an answer; "
            'write [{"text": "...", "start": 0}]'
        )
    return tuple(_answer(row, context, item) for item in value)


def _answer(row: Row, context: str, item: object) -> Answer:
    if not isinstance(item, Mapping) or not {"text", "start"} <= set(item):
        raise DataError(f"{row.origin}: answer {shown(item)} is not an object with text and start")
    text, start = checked_text(row.origin, "text", item["text"]), item["start"]
    if not isinstance(start, int) or isinstance(start, bool):
        raise DataError(f"{row.origin}: start is {shown(start)}, not a whole number")
    if not text.strip() or start < 0 or context[start : start + len(text)] != text:
        raise DataError(
            f"{row.origin}: answer {shown(text)} is not in the context at character {start}"
        )
    return Answer(text, start)


def _shortened(encoding: Encoding, max_length: int) -> Encoding:
    """The question cut to half of the room that it shares with a window."""
    question = encoding.parts == 0
    room = max_length - int((encoding.parts < 0).sum())
    if room < 2:
        raise DataError(
            f"{max_length} tokens hold no question with its context; export with longer --seq"
        )
    return encoding.select(~question | (np.cumsum(question) <= room // 2))


def _windows(encoding: Encoding, max_length: int) -> Iterator[Window]:
    context = np.flatnonzero(encoding.parts == 1)
    room = max_length - (len(encoding.ids) - len(context))
    step = room - room // _OVERLAP
    for start in range(0, max(1, len(context) - room + step), step):
        kept = encoding.parts < 1
        kept[context[start : start + room]] = True
        part = encoding.select(kept)
        inside = (part.parts == 1)[:, None]
        yield Window(part.ids, part.type_ids, np.where(inside, part.offsets, -1))


def _mark(target: np.ndarray, window: Window, answer: Answer) -> None:
    """Write the target [2, max_length] of a window whose answer is known."""
    spans = window.spans
    target[:, : len(spans)] = 0
    context = np.flatnonzero(spans[:, 0] >= 0)
    begin, end = answer.start, answer.start + len(answer.text)
    covering = context[(spans[context, 1] > begin) & (spans[context, 0] < end)]
    whole = len(covering) > 0 and spans[covering[0], 0] <= begin and spans[covering[-1], 1] >= end
    first, last = (covering[0], covering[-1]) if whole else (0, 0)
    target[0, first] = target[1, last] = 1


def _best(context: str, windows: Sequence[tuple[np.ndarray, np.ndarray]]) -> FoundAnswer:
    """The span with the largest sum of its two logits, over windows of one context.

    A context without any token has an empty answer.
    """
    scores = [_span_scores(spans, logits) for spans, logits in windows]
    best = max(range(len(windows)), key=lambda index: scores[index].max())
    spans, table = windows[best][0], scores[best]
    if np.isneginf(table.max()):
        return FoundAnswer("", 0, 0, 0.0)
    first, ahead = np.unravel_index(int(table.argmax()), table.shape)
    start, end = int(spans[first, 0]), int(spans[first + ahead, 1])
    covered = context[start:end]
    start += len(covered) - len(covered.lstrip())
    text = covered.strip()
    total = sum(float(np.exp(part - table.max()).sum()) for part in scores)
    return FoundAnswer(text, start, start + len(text), 1.0 / total)


def _span_scores(spans: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Scores [L, LONGEST] of the span from each token to so many tokens ahead; -inf if none."""
    length = len(spans)
    outside = np.where(spans[:, :1] >= 0, 0.0, -np.inf)
    first, last = (logits.astype(np.float64) + outside).T
    padded = np.concatenate([last, np.full(LONGEST, -np.inf)])
    ahead = np.arange(length)[:, None] + np.arange(LONGEST)
    table: np.ndarray = first[:, None] + padded[ahead]
    return table
