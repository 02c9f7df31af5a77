"""A tag for each word: columns `tokens` and `tags`, lists or one string each with spaces.

Words are tokenized as one text with a space between them, and a tag is learned and
predicted at the first token of its word. A word that was cut off, or that has no token, is
outside of all entities.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effine.runtime.errors import DataError
from effine.runtime.examples import Example, Row, checked_text, shown
from effine.runtime.labels import encode_tags
from effine.runtime.predictions import Prediction
from effine.runtime.tasks import Samples, Task, task
from effine.runtime.tasks.classification import softmax
from effine.runtime.tokenize import Encoding, Tokenizer, Tokens

OUTSIDE = "O"
IGNORED = -100
"""The label of positions that nothing is learned at."""
_PREFIXES = ("B", "I", "E", "S")

Span = tuple[str, int, int]


@dataclass(frozen=True)
class Words(Tokens):
    """Tokens of words; `firsts` [W] int64 is where each word starts, -1 where it has no token."""

    firsts: np.ndarray


@dataclass(frozen=True)
class TaggedWord:
    """A word with its tag; the probability is None where the word was cut off."""

    word: str
    tag: str
    probability: float | None


@dataclass(frozen=True)
class Entity:
    """Words from `start` up to, not including, `end`; the least probability of their tags."""

    label: str
    start: int
    end: int
    text: str
    probability: float


@dataclass(frozen=True)
class TaggedText(Prediction):
    """The words with their tags, and the entities that the tags make."""

    words: tuple[TaggedWord, ...]
    entities: tuple[Entity, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The tags."""
        return tuple(word.tag for word in self.words)

    def __str__(self) -> str:
        """The text with its entities in brackets, such as `by [Too Poetic: artist 0.981]`."""
        parts = [word.word for word in self.words]
        for found in self.entities:
            parts[found.start] = f"[{parts[found.start]}"
            parts[found.end - 1] += f": {found.label} {found.probability:.3f}]"
        return " ".join(parts)


@task
class TokenClassification(Task):
    """Precision, recall and F1 of whole entities, and the share of right tags."""

    name = "token-classification"
    metrics = ("entity_f1", "entity_precision", "entity_recall", "tag_accuracy")
    inputs = ("tokens",)
    target = "tags"
    per_token = True
    hint = '{"tokens": [...], "tags": [...]}'

    def read(self, row: Row, labelled: bool) -> Example:
        """Words, and as many tags."""
        words = _strings(row, "tokens")
        tags = _strings(row, "tags") if labelled else None
        if tags is not None and len(tags) != len(words):
            raise DataError(
                f"{row.origin}: {len(words)} tokens and {len(tags)} tags; give one tag for each"
            )
        return Example(" ".join(words), words=words, tags=tags, origin=row.origin)

    def row(self, example: Example) -> dict[str, object]:
        """Words and tags."""
        return {"tokens": example.words, "tags": example.tags}

    def bare_row(self, item: object) -> Mapping[str, object] | None:
        """A text, which is split at whitespace, or its words."""
        return {"tokens": item} if isinstance(item, str | list | tuple) else None

    def samples(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        max_length: int,
        labels: Sequence[str] | None = None,
        rows: int = 0,
    ) -> Samples:
        """Token ids with the places of the words; labels [N, max_length] int64."""
        whole = [tokenizer.align(example.text) for example in examples]
        tokens = [
            _words(encoding.cut(max_length), example.words or ())
            for encoding, example in zip(whole, examples, strict=True)
        ]
        targets = np.zeros(len(examples))
        if labels is not None:
            targets = _labels_at(tokens, encode_tags(examples, labels), max_length)
        truncated = sum(len(encoding.ids) > max_length for encoding in whole)
        return Samples(examples, tokens, np.arange(len(examples)), targets, truncated)

    def evaluate(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> dict[str, float]:
        """Entity F1, precision and recall over all examples, and the accuracy of tags."""
        given = [example.tags or () for example in samples.examples]
        found = [p.choices for p in self.predictions(outputs, samples, labels)]
        pairs = [pair for two in zip(given, found, strict=True) for pair in zip(*two, strict=True)]
        scores = entity_scores(given, found)
        return scores | {"tag_accuracy": sum(a == b for a, b in pairs) / len(pairs)}

    def predictions(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> Sequence[TaggedText]:
        """Each word's likeliest tag, and entities."""
        return [
            _tagged(example.words or (), firsts_of(tokens), logits, labels)
            for example, tokens, logits in zip(
                samples.examples, samples.tokens, outputs, strict=True
            )
        ]

    def collapse(
        self, outputs: Sequence[np.ndarray], samples: Samples, labels: Sequence[str]
    ) -> str | None:
        """A warning if all words of several have one tag."""
        tags = [tag for p in self.predictions(outputs, samples, labels) for tag in p.choices]
        if len(tags) < 2 or len(set(tags)) > 1:
            return None
        return (
            f"every word of the evaluation data is predicted to be '{tags[0]}': training is "
            "too short, or the learning rates are too low"
        )


def entities(tags: Sequence[str]) -> list[Span]:
    """The entities in the tags of a text, as CoNLL-2000's conlleval and seqeval find them.

    Tags are `O`, or a prefix and a label such as `B-artist`. An entity goes on over tags I
    and E of its label, ends after E, and one that starts with I or E is taken as it is. Tags
    without a prefix count as I.

    Returns:
        Label, first word, and the word after the last, of each.
    """
    found: list[Span] = []
    before = OUTSIDE
    for place, tag in enumerate([*tags, OUTSIDE]):
        (last, old), (kind, label) = _parts(before), _parts(tag)
        goes_on = kind in ("I", "E") and last in ("B", "I") and label == old
        if last and not goes_on:
            found[-1] = (*found[-1][:2], place)
        if kind and not goes_on:
            found.append((label, place, place))
        before = tag
    return found


def entity_scores(
    given: Iterable[Sequence[str]], found: Iterable[Sequence[str]]
) -> dict[str, float]:
    """F1, precision and recall of entities, over all texts; 0 where there is nothing to count.

    Args:
        given, found: the right and the predicted tags of each text.
    """
    right = expected = predicted = 0
    for a, b in zip(given, found, strict=True):
        wanted, made = set(entities(a)), set(entities(b))
        right += len(wanted & made)
        expected += len(wanted)
        predicted += len(made)
    return {
        "entity_f1": 2 * right / max(1, expected + predicted),
        "entity_precision": right / max(1, predicted),
        "entity_recall": right / max(1, expected),
    }


def firsts_of(tokens: Tokens) -> np.ndarray:
    """Where each word of a sample of this task starts, [W]."""
    assert isinstance(tokens, Words)
    return tokens.firsts


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag; both are empty outside."""
    if tag == OUTSIDE:
        return "", ""
    prefix, separator, label = tag.partition("-")
    return (prefix, label) if separator and prefix in _PREFIXES else ("I", tag)


def _strings(row: Row, column: str) -> tuple[str, ...]:
    value = row.values[column]
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list | tuple):
        raise DataError(
            f"{row.origin}: {column} is {shown(value)}, not a list; write "
            '["a", "b"], or "a b" with spaces'
        )
    texts = tuple(checked_text(row.origin, column, text) for text in value)
    if not texts or not all(text.strip() for text in texts):
        raise DataError(f"{row.origin}: {column} is empty or has an empty entry; fill it in")
    return texts


def _words(encoding: Encoding, words: Sequence[str]) -> Words:
    """Where the words of a text of words with a space between them start."""
    starts = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))
    text = " ".join(words)
    firsts = np.full(len(words), -1, np.int64)
    for place, (part, (begin, end)) in enumerate(
        zip(encoding.parts.tolist(), encoding.offsets.tolist(), strict=True)
    ):
        covered = text[begin:end]
        inside = begin + len(covered) - len(covered.lstrip())
        if part == 0 and inside < end:
            word = bisect.bisect_right(starts, inside) - 1
            if firsts[word] < 0:
                firsts[word] = place
    return Words(encoding.ids, encoding.type_ids, firsts)


def _labels_at(tokens: Sequence[Words], tags: Sequence[np.ndarray], max_length: int) -> np.ndarray:
    labels = np.full((len(tokens), max_length), IGNORED, np.int64)
    for row, sample, positions in zip(labels, tokens, tags, strict=True):
        there = sample.firsts >= 0
        row[sample.firsts[there]] = positions[there]
    return labels


def _tagged(
    words: Sequence[str], firsts: np.ndarray, logits: np.ndarray, labels: Sequence[str]
) -> TaggedText:
    shares = softmax(logits)
    tagged = []
    for word, first in zip(words, firsts.tolist(), strict=True):
        if first < 0:
            tagged.append(TaggedWord(word, OUTSIDE, None))
            continue
        best = int(shares[first].argmax())
        tagged.append(TaggedWord(word, labels[best], float(shares[first, best])))
    spans = entities([word.tag for word in tagged])
    return TaggedText(tuple(tagged), tuple(_entity(tagged, *span) for span in spans))


def _entity(tagged: Sequence[TaggedWord], label: str, start: int, end: int) -> Entity:
    inside = tagged[start:end]
    text = " ".join(word.word for word in inside)
    return Entity(label, start, end, text, min(word.probability or 0.0 for word in inside))
