"""Strict JSON for dataclasses: a file may hold what the annotations say, nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

MAX_ENTRIES = 100_000
MAX_ELEMENTS = 10**9
MAX_RANK = 8
_SHOWN = 60
_SEAL = '"sha256": "{}"\n}}\n'
_UNSEALED = _SEAL.format("0" * 64)


class FormatError(ValueError):
    """A document isn't what its type says; callers name the file."""


@dataclass(frozen=True)
class Rule:
    """A bound on a value, used as `Annotated[type, Rule(...)]`."""

    holds: Callable[[Any], bool]
    wanted: str


def between(low: float, high: float) -> Rule:
    """A number from low to high, both included."""
    return Rule(lambda value: low <= value <= high, f"between {low:g} and {high:g}")


def one_of(*choices: str) -> Rule:
    """One of a few words."""
    return Rule(lambda value: value in choices, f"one of {', '.join(choices)}")


def matching(pattern: str, wanted: str) -> Rule:
    """A string that matches a pattern as a whole."""
    return Rule(lambda value: re.fullmatch(pattern, value) is not None, wanted)


Text = Annotated[str, Rule(lambda text: len(text) <= 1000, "shorter than 1000 characters")]
Name = Annotated[str, matching(r"[!-~]{1,200}", "a name of printable ASCII characters")]
Hash = Annotated[str, matching(r"[0-9a-f]{64}", "a lower-case SHA-256")]
FileName = Annotated[
    str, matching(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", "a plain file name")
]
Count = Annotated[int, between(0, MAX_ELEMENTS)]
Positive = Annotated[int, between(1, MAX_ELEMENTS)]
Amount = Annotated[float, between(0, math.inf)]
Share = Annotated[float, between(0, 1)]
Shape = Annotated[
    tuple[Positive, ...],
    Rule(lambda shape: len(shape) <= MAX_RANK, f"of rank {MAX_RANK} or less"),
    Rule(lambda shape: math.prod(shape) <= MAX_ELEMENTS, f"of at most {MAX_ELEMENTS} elements"),
]


def parse(text: str) -> Any:
    """Read JSON without duplicate keys, numbers that aren't finite and lone surrogates.

    Raises:
        FormatError: the text is anything else.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite
        )
        if "\\u" in text:
            canonical(value).encode()
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not valid JSON ({error})") from error
    return value


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, characters unescaped."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def seal(document: dict[str, Any]) -> str:
    """Indented JSON whose last value, `sha256`, is that of the text with 64 zeros in its place."""
    unsealed = {key: value for key, value in document.items() if key != "sha256"}
    unsealed["sha256"] = "0" * 64
    text = json.dumps(unsealed, indent=1, ensure_ascii=False, allow_nan=False)
    return _sealed(text + "\n")


def is_sealed(text: str) -> bool:
    """Whether a text ends in the SHA-256 that `seal` gave it."""
    return text == _sealed(text)


def _sealed(text: str) -> str:
    body = text[: -len(_UNSEALED)]
    digest = hashlib.sha256((body + _UNSEALED).encode()).hexdigest()
    return body + _SEAL.format(digest)


def encode(value: Any) -> Any:
    """Turn dataclasses and tuples into what `json` writes; integers in float fields get a point."""
    owner: Any = type(value)
    if is_dataclass(value):
        given = {key: getattr(value, name) for key, (name, _) in _fields(owner).items()}
        left_out = {key for key, default in _optional(owner).items() if given[key] == default}
        return {
            key: _encode_field(kind, given[key])
            for key, (_, kind) in _fields(owner).items()
            if key not in left_out
        }
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def _encode_field(kind: Any, value: Any) -> Any:
    is_float = float in (kind, *get_args(kind))
    return float(value) if is_float and isinstance(value, int) else encode(value)


def decode(kind: Any, value: Any, where: str) -> Any:
    """Check a parsed JSON value against a type and build it.

    Args:
        kind: str, int, float, bool, Any, a dataclass, `tuple[T, ...]`, `dict[str, T]`,
            `T | None`, or one of them as `Annotated[T, Rule(...)]`; no key may be missing or
            unknown, but for fields whose metadata say `optional`: those are written only when
            they differ from their default.
        value: what `parse` returned.
        where: the value's place in the document, for messages.

    Raises:
        FormatError: naming the place, the value and what is wanted instead.
    """
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *rules = get_args(kind)
        built = decode(inner, value, where)
        for rule in rules:
            if not rule.holds(built):
                raise FormatError(f"{where}: {_shown(value)} is not {rule.wanted}")
        return built
    if origin in (Union, UnionType):
        (inner,) = (member for member in get_args(kind) if member is not NoneType)
        return None if value is None else decode(inner, value, where)
    if origin is tuple:
        items = _entries(list, value, where)
        return tuple(decode(get_args(kind)[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        table = _entries(dict, value, where)
        return {key: decode(get_args(kind)[1], v, f"{where}.{key}") for key, v in table.items()}
    if is_dataclass(kind):
        return _decode_fields(kind, _entries(dict, value, where), where)
    return value if kind is Any else _scalar(kind, value, where)


def _decode_fields(kind: Any, value: dict[str, Any], where: str) -> Any:
    known, optional = _fields(kind), _optional(kind)
    missing = known.keys() - value - optional.keys()
    for problem, keys in (("missing", missing), ("unknown", value.keys() - known)):
        if keys:
            raise FormatError(f"{where or 'document'}: {problem} {_shown(', '.join(sorted(keys)))}")
    prefix = f"{where}." if where else ""
    return kind(
        **{
            name: decode(hint, value[key], prefix + key)
            for key, (name, hint) in known.items()
            if key in value
        }
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= 2**53:
        return float(value)
    if type(value) is not kind:
        raise FormatError(f"{where}: {_shown(value)} is not of type {kind.__name__}")
    if kind is int and not -(2**63) <= value < 2**64:
        raise FormatError(f"{where}: {_shown(value)} is absurd")
    return value


def _entries(kind: Any, value: Any, where: str) -> Any:
    if type(value) is not kind:
        wanted = "list" if kind is list else "object"
        raise FormatError(f"{where or 'document'}: {_shown(value)} is not a JSON {wanted}")
    if len(value) > MAX_ENTRIES:
        raise FormatError(f"{where}: {len(value)} entries, more than {MAX_ENTRIES}")
    return value


@lru_cache(maxsize=64)
def _fields(kind: Any) -> dict[str, tuple[str, Any]]:
    """Field name and type by JSON key, which is the name unless the field's metadata say `key`."""
    hints = get_type_hints(kind, include_extras=True)
    return {_key(f): (f.name, hints[f.name]) for f in fields(kind)}


@lru_cache(maxsize=64)
def _optional(kind: Any) -> dict[str, Any]:
    """The default of each field that may be left out, by JSON key."""
    return {
        _key(f): f.default if f.default_factory is MISSING else f.default_factory()
        for f in fields(kind)
        if f.metadata.get("optional")
    }


def _key(field: Field[Any]) -> str:
    key: str = field.metadata.get("key", field.name)
    return key


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{_shown(twice)} occurs twice")
    return table


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise FormatError(f"{_shown(text)} is not a finite number")
    return value
