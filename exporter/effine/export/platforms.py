"""Platforms: what the SDK of one can't serve is refused at export, not on the phone.

The tables say what the Android SDK knows; its tests hold them against the SDK itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from effine.export.errors import ExportError

PLATFORMS = ("android",)
TASKS = (
    "classification",
    "multilabel",
    "question-answering",
    "regression",
    "token-classification",
)
NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"),
    *("Replace", "Sequence", "Strip", "StripAccents"),
)
PRE_TOKENIZERS = ("BertPreTokenizer", "ByteLevel", "Metaspace", "Sequence", "WhitespaceSplit")
MODELS = ("BPE", "Unigram", "WordPiece")
POST_PROCESSORS = (
    *("BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"),
)
_SECTIONS = {
    "normalizer": ("normalizer", "normalizers", NORMALIZERS),
    "pre_tokenizer": ("pre-tokenizer", "pretokenizers", PRE_TOKENIZERS),
    "post_processor": ("post-processor", "processors", POST_PROCESSORS),
    "model": ("model", "", MODELS),
}
_REPEATED = re.compile(r"[^\\^$.|?*+()\[\]{}](\{[1-9][0-9]{0,2},\}|\+)", re.DOTALL)
_BPE_EXTRAS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")

Json = Mapping[str, Any]


def check_platform(platform: str | None, target: str, task: str, tokenizer: Tokenizer) -> None:
    """Refuse an artifact that a platform's SDK couldn't use.

    Args:
        platform: its name; None is none in particular.

    Raises:
        ExportError: there is no such platform, or its SDK lacks something.
    """
    if platform is None:
        return
    if platform not in PLATFORMS:
        raise ExportError(f"--platform {platform}: known: {', '.join(PLATFORMS)}")
    if target != "xnnpack":
        raise ExportError(
            f"--platform {platform}: the SDK runs ExecuTorch programs alone; leave out "
            f"--target {target}"
        )
    if task not in TASKS:
        raise ExportError(f"--platform {platform}: the SDK doesn't know --task {task}")
    unknown = next(unknown_parts(json.loads(tokenizer.to_str())), None)
    if unknown is not None:
        raise ExportError(
            f"--platform {platform}: the SDK's tokenizer doesn't know {unknown}; choose a --model "
            "with another tokenizer"
        )


def unknown_parts(document: Json) -> Iterator[str]:
    """What the Android SDK doesn't know of a tokenizer.json."""
    for section, (name, below, known) in _SECTIONS.items():
        for part in _parts(document.get(section), below):
            if part["type"] not in known:
                yield f"{name} '{part['type']}'"
            elif part["type"] in _OPTIONS:
                yield from _OPTIONS[part["type"]](part)
    for token in document.get("added_tokens") or ():
        if token["single_word"] or not token["content"]:
            yield f"added token '{token['content']}'"


def _parts(part: Json | None, below: str) -> Iterator[Json]:
    """A part, and those that it is a sequence of."""
    if part is not None:
        yield part
        for inner in part.get(below) or ():
            yield from _parts(inner, below)


def _replace(part: Json) -> Iterator[str]:
    ((kind, pattern),) = part["pattern"].items()
    if not (pattern if kind == "String" else _REPEATED.fullmatch(pattern)):
        yield f"normalizer 'Replace' of '{pattern}'"


def _bpe(part: Json) -> Iterator[str]:
    yield from (f"model: {name}" for name in _BPE_EXTRAS if part.get(name) not in (None, ""))
    if not set(ByteLevel.alphabet()) <= set(part["vocab"]):
        yield "model: BPE that isn't byte-level"


def _unigram(part: Json) -> Iterator[str]:
    if part.get("unk_id") is None:
        yield "model: Unigram without an unknown token"


_OPTIONS: dict[str, Callable[[Json], Iterator[str]]] = {
    "Replace": _replace,
    "BPE": _bpe,
    "Unigram": _unigram,
}
