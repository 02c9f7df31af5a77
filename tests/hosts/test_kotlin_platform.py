"""The exporter refuses for Android what the Kotlin SDK can't serve, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from effine.export.platforms import TASKS, unknown_parts
from effine.export.unicode_tables import cluster_table
from effine.runtime.codec import seal
from effine.runtime.engines.jvm import JvmRunner
from effine.runtime.tasks import known_tasks
from tiny_artifact import make_artifact

pytest_plugins = "runners"


def specimens() -> dict[str, list[object]]:
    """Every kind of part that tokenizers has, by its section of tokenizer.json."""
    cls, sep, letters = ("[CLS]", 0), ("[SEP]", 0), [("[UNK]", 0.0), ("a", -1.0)]
    alphabet = {c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    plain = ("BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Strip", "StripAccents")
    split = ("BertPreTokenizer", "ByteLevel", "Digits", "FixedLength", "Metaspace", "Punctuation")
    split += ("UnicodeScripts", "Whitespace", "WhitespaceSplit")
    return {
        "normalizer": [
            *(getattr(normalizers, name)() for name in (*plain, "Lowercase", "ByteLevel")),
            normalizers.Prepend("a"),
            normalizers.Precompiled(cluster_table()),
            *(normalizers.Replace(text, "b") for text in ("", "a", "a+", " {2,}")),
            *(
                normalizers.Replace(Regex(text), "b")
                for text in ("a+", " {2,}", "a{0,}", r"\s+", "ab")
            ),
            normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("a")]),
            normalizers.Sequence([normalizers.NFC()]),
        ],
        "pre_tokenizer": [
            *(getattr(pre_tokenizers, name)() for name in split),
            pre_tokenizers.CharDelimiterSplit("-"),
            pre_tokenizers.Split("a", "isolated"),
            pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits()]),
            pre_tokenizers.Sequence([]),
        ],
        "model": [
            models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"),
            models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"),
            models.BPE(alphabet, []),
            models.BPE(alphabet, [], dropout=0.5),
            models.BPE(alphabet, [], end_of_word_suffix="$"),
            models.BPE(alphabet, [], continuing_subword_prefix="$"),
            models.BPE({"a": 0}, []),
            models.Unigram(letters, 0),
            models.Unigram(letters, 0, byte_fallback=True),
            models.Unigram(letters),
        ],
        "post_processor": [
            processors.BertProcessing(sep, cls),
            processors.RobertaProcessing(sep, cls),
            processors.ByteLevel(),
            processors.TemplateProcessing("[CLS] $A", "[CLS] $A $B", [cls]),
            processors.Sequence([processors.ByteLevel()]),
        ],
    }


def test_the_exporter_knows_what_the_sdk_knows(jvm: JvmRunner, tmp_path: Path) -> None:
    """Each part in a tokenizer of its own: both take it, or both refuse it with the same words."""
    made: list[tuple[Path, list[str]]] = []
    base = json.loads(Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).to_str())

    def add(**parts: object) -> None:
        path = tmp_path / f"{len(made)}.json"
        path.write_text(json.dumps(base | parts))
        made.append((path, list(unknown_parts(base | parts))))

    for section, parts in specimens().items():
        module = {"model": models, "post_processor": processors}.get(section)
        module = module or (normalizers if section == "normalizer" else pre_tokenizers)
        kinds = {type(part) for part in parts}
        bases = {kind.__base__ for kind in kinds}
        assert kinds == {k for k in vars(module).values() if isinstance(k, type)} - bases
        for part in parts:
            state = part.__getstate__()  # type: ignore[attr-defined]
            add(**{section: json.loads(state)})
    token = {"id": 0, "content": "a", "lstrip": False, "rstrip": False, "normalized": True}
    token |= {"special": False, "single_word": False}
    for changes in ({}, {"single_word": True}, {"content": ""}):
        add(added_tokens=[token | changes])
    lines = jvm.run("check", *(path for path, _ in made)).splitlines()
    for (path, unknown), line in zip(made, lines, strict=True):
        assert (line == "ok") == (not unknown), (path.read_text()[:300], line, unknown)
        assert not unknown or unknown[0] in line


def test_the_exporter_knows_the_sdks_tasks(jvm: JvmRunner, tmp_path: Path) -> None:
    for name in (*known_tasks(), "other"):
        folder = make_artifact(tmp_path / name)
        document = json.loads((folder / "manifest.json").read_text())
        metrics = known_tasks()[name].metrics if name != "other" else ("accuracy",)
        document["task"] |= {"name": name, "metric": metrics[0]}
        (folder / "manifest.json").write_text(seal(document))
    folders = [tmp_path / name for name in (*known_tasks(), "other")]
    lines = jvm.run("verify", *folders).splitlines()
    served = [folder.name for folder, line in zip(folders, lines, strict=True) if line == "ok"]
    assert served == list(TASKS), lines
