"""What Hugging Face's tokenizers know of Unicode, as a table for hosts without that library.

    python -m effine.export.unicode_tables FILE

A phone's system has its own version of Unicode, and so has every part of the library: classes,
decompositions and lower-casing are therefore asked of the library itself, code point by code
point. One line for each table: its name, then code points (hexadecimal, `first-last` for runs)
or `code:replacement,replacement`.
"""

from __future__ import annotations

import struct
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Regex
from tokenizers.normalizers import (
    NFC,
    NFD,
    NFKD,
    BertNormalizer,
    Lowercase,
    Precompiled,
    StripAccents,
)
from tokenizers.pre_tokenizers import BertPreTokenizer, Split, WhitespaceSplit

_SURROGATES = range(0xD800, 0xE000)
_HANGUL = range(0xAC00, 0xD7A4)
_LOWEST_CLASS = "\u0334"
_HIGHEST_CLASS = "\u0345"
_ACUTE, _JOINER, _COPYRIGHT, _NUMBER_SIGN = "\u0301", "\u200d", "\xa9", "\u0600"
_CONSONANT, _LINKER = "\u0915", "\u094d"
_LEAD, _VOWEL, _TAIL = "\u1100", "\u1161", "\u11a8"


def tables() -> Iterator[str]:
    """The lines of the file."""
    clean = BertNormalizer(
        clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
    )
    strip = BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
    )
    whitespace, bert = WhitespaceSplit(), BertPreTokenizer()
    nfd, nfc, nfkd, lower, marks = NFD(), NFC(), NFKD(), Lowercase(), StripAccents()
    yield _set("whitespace", lambda c: len(whitespace.pre_tokenize_str(f"a{c}a")) == 2)
    yield _set("removed", lambda c: clean.normalize_str(c) == "")
    yield _set("punctuation", lambda c: len(bert.pre_tokenize_str(f"a{c}a")) == 3)
    yield _set("nonspacing", lambda c: strip.normalize_str(c) == "")
    yield _set("mark", lambda c: marks.normalize_str(c) == "")
    yield _set("letter", _matches(r"\p{L}"))
    yield _set("number", _matches(r"\p{N}"))
    yield _set("space", _matches(r"\s"))
    yield _map("class", {c: [v] for c in _characters() if (v := _class(nfd.normalize_str, c))})
    yield _map("decomposition", _changed(nfd.normalize_str, _HANGUL))
    yield _set("uncomposed", lambda c: nfd.normalize_str(c) != c != nfc.normalize_str(c))
    compatible = _changed(nfkd.normalize_str, _HANGUL)
    yield _map("compatibility", {c: v for c, v in compatible.items() if v != _codes(nfd, c)})
    yield _map("lower", _changed(lower.normalize_str))
    yield from _cluster_tables()


def main(path: Path) -> None:
    """Write the tables."""
    path.write_text("".join(line + "\n" for line in tables()), encoding="ascii")


def _cluster_tables() -> Iterator[str]:
    """What decides where extended grapheme clusters end.

    A cluster of at most 5 bytes counts as 1, a longer one as its code points. A short character
    with a mark behind it therefore counts as 1 where a cluster starts with it, and as 2 where it
    goes with what is before.
    """
    clusters = Precompiled(cluster_table())

    def count(text: str) -> int:
        return len(clusters.normalize_str(text))

    attached = {c for c in _characters() if count(f"a{c}") == 1}
    yield _set("attached", attached.__contains__)
    first = _COPYRIGHT + "{}" + _JOINER + _COPYRIGHT + _ACUTE
    yield _set("spacing", lambda c: c in attached and count(first.format(c)) == 4)
    yield _set("prepended", lambda c: count(f"{c}a") == 1)
    controls = {c for c in _characters() if count(c + _ACUTE + _ACUTE) == 2}
    yield _set("control", controls.__contains__)
    rest = [c for c in _characters() if c not in attached and c not in controls]

    def follow(start: str, others: Iterable[str] = rest) -> set[str]:
        return {c for c in others if count(start + c) == 3}

    lead, vowel, tail = (follow(_NUMBER_SIGN + c) for c in (_LEAD, _VOWEL, _TAIL))
    syllables = {chr(code) for code in _HANGUL}
    yield _set("lead", (lead - vowel - syllables).__contains__)
    yield _set("vowel", (lead & vowel).__contains__)
    yield _set("tail", tail.__contains__)
    yield _set("pictograph", follow(_COPYRIGHT + _JOINER).__contains__)
    linked = _LINKER + _CONSONANT + _ACUTE
    yield _set("consonant", {c for c in rest if count(c + linked) == 4}.__contains__)
    linkers = {c for c in attached if count(_CONSONANT + c + _CONSONANT + _ACUTE) == 4}
    yield _set("linker", linkers.__contains__)


def cluster_table() -> bytes:
    """A table for `Precompiled` that makes one X of each of the pieces that it looks up.

    It is a double array with a leaf below each first byte.
    """
    children, leaves = 256, 512
    units = [children << 10] + [0] * (leaves + 255)
    for byte in range(1, 256):
        units[children + byte] = byte | 1 << 8 | (children ^ leaves) << 10
        units[leaves + byte] = 1 << 31
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + b"X\0"


def _characters() -> Iterator[str]:
    return (chr(code) for code in range(sys.maxunicode + 1) if code not in _SURROGATES)


def _set(name: str, holds: Callable[[str], bool]) -> str:
    runs: list[list[int]] = []
    for code in (ord(c) for c in _characters() if holds(c)):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join([name, *(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in runs)])


def _matches(pattern: str) -> Callable[[str], bool]:
    split = Split(Regex(pattern), "isolated")
    return lambda c: len(split.pre_tokenize_str(f"!{c}!")) == 3


def _map(name: str, entries: Mapping[str, Sequence[int]]) -> str:
    written = (f"{ord(c):x}:{','.join(f'{v:x}' for v in values)}" for c, values in entries.items())
    return " ".join([name, *written])


def _changed(change: Callable[[str], str], without: range = range(0)) -> dict[str, list[int]]:
    return {
        c: [ord(part) for part in changed]
        for c in _characters()
        if ord(c) not in without and (changed := change(c)) != c
    }


def _codes(normalizer: NFD, character: str) -> list[int]:
    return [ord(part) for part in normalizer.normalize_str(character)]


def _class(nfd: Callable[[str], str], character: str) -> int:
    """The canonical combining class, 0 where the library doesn't know the mark."""
    value = unicodedata.combining(character)
    lowest, highest = character + _LOWEST_CLASS, _HIGHEST_CLASS + character
    if value == 0 or nfd(lowest) != lowest or nfd(highest) != highest:
        return value
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
