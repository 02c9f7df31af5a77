"""--platform: what a platform's SDK can't serve is refused before anything is exported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from commands import refused
from effine.export.errors import ExportError
from effine.export.platforms import check_platform
from networks import small_tokenizer


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "sentence-end"])
def test_the_usual_tokenizers_are_served(kind: str) -> None:
    check_platform("android", "xnnpack", "classification", small_tokenizer(kind))


def test_what_is_not_known_is_named() -> None:
    tokenizer = small_tokenizer("unigram")
    with pytest.raises(ExportError, match=r"--platform ios: known: android"):
        check_platform("ios", "xnnpack", "classification", tokenizer)
    with pytest.raises(ExportError, match=r"the SDK doesn't know --task summarisation"):
        check_platform("android", "xnnpack", "summarisation", tokenizer)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("a")])
    check_platform(None, "onnx", "other", tokenizer)
    with pytest.raises(ExportError, match=r"the SDK's tokenizer doesn't know normalizer 'Prepend'"):
        check_platform("android", "xnnpack", "classification", tokenizer)


def test_the_command_refuses(tiny: dict[str, Path], tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "a.effine"
    shutil.copytree(tiny["xlm-roberta"], model)
    given = ("export", "--model", model, "--method", "head", "--platform", "android", "--out", out)
    message = refused(*given, "--target", "onnx")
    assert message == (
        "--platform android: the SDK runs ExecuTorch programs alone; leave out --target onnx"
    )
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Digits()
    tokenizer.save(str(model / "tokenizer.json"))
    assert refused(*given) == (
        "--platform android: the SDK's tokenizer doesn't know pre-tokenizer 'Digits'; choose a "
        "--model with another tokenizer"
    )
    assert not out.exists()
