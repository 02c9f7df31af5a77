"""What Hugging Face's tokenizers know of Unicode, as a table for hosts without that library.

    python -m effine.export.unicode_tables FILE

A phone's system has its own version of Unicode, and so has every part of the library: classes,
decompositions and lower-casing are therefore asked of the library itself, code point by code
point. One line for each table: its name, then code points (hexadecimal, `first-last` for runs)
or `code:replacement,replacement`.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Regex
from tokenizers.normalizers import NFD, BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer, Split, WhitespaceSplit

_SURROGATES = range(0xD800, 0xE000)
_HANGUL = range(0xAC00, 0xD7A4)
_LOWEST_CLASS = "\u0334"
_HIGHEST_CLASS = "\u0345"


def tables() -> Iterator[str]:
    """The lines of the file."""
    clean = BertNormalizer(
        clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
    )
    strip = BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
    )
    whitespace, bert = WhitespaceSplit(), BertPreTokenizer()
    nfd, lower = NFD(), Lowercase()
    yield _set("whitespace", lambda c: len(whitespace.pre_tokenize_str(f"a{c}a")) == 2)
    yield _set("removed", lambda c: clean.normalize_str(c) == "")
    yield _set("punctuation", lambda c: len(bert.pre_tokenize_str(f"a{c}a")) == 3)
    yield _set("nonspacing", lambda c: strip.normalize_str(c) == "")
    yield _set("letter", _matches(r"\p{L}"))
    yield _set("number", _matches(r"\p{N}"))
    yield _set("space", _matches(r"\s"))
    yield _map("class", {c: [v] for c in _characters() if (v := _class(nfd.normalize_str, c))})
    yield _map("decomposition", _changed(nfd.normalize_str, _HANGUL))
    yield _map("lower", _changed(lower.normalize_str))


def main(path: Path) -> None:
    """Write the tables."""
    path.write_text("".join(line + "\n" for line in tables()), encoding="ascii")


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


def _class(nfd: Callable[[str], str], character: str) -> int:
    """The canonical combining class, 0 where the library doesn't know the mark."""
    value = unicodedata.combining(character)
    lowest, highest = character + _LOWEST_CLASS, _HIGHEST_CLASS + character
    if value == 0 or nfd(lowest) != lowest or nfd(highest) != highest:
        return value
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
