"""Archives of bundles that someone has changed, by a part of the reason for refusing them."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from effine.runtime.codec import seal

Entries = list[tuple[zipfile.ZipInfo, bytes]]


def rewritten(archive: Path, folder: Path, change: Callable[[Entries], Entries]) -> Path:
    """A copy of an archive with other entries."""
    target = folder / "changed.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as written:
        for entry, content in change([(e, source.read(e)) for e in source.infolist()]):
            written.writestr(entry, content)
    return target


def add(name: str, content: bytes = b"x", **attributes: int) -> Callable[[Entries], Entries]:
    entry = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(entry, key, value)
    return lambda entries: [*entries, (entry, content)]


def replace_content(name: str, content: bytes) -> Callable[[Entries], Entries]:
    return lambda entries: [(e, content if e.filename == name else old) for e, old in entries]


def newer(entries: Entries) -> Entries:
    """Say version 9 without signing it."""
    info = json.loads(dict((e.filename, c) for e, c in entries)["bundle.json"])
    return replace_content("bundle.json", seal(info | {"version": 9}).encode())(entries)


CHANGES = {
    "isn't a path inside of a bundle": [
        add("../x"),
        add("/x"),
        add("first.effine/../../x"),
        add("first.effine/.."),
        add("..\\x"),
        add("a/b/c"),
        add("folder/"),
        add("x\n"),
        add(""),
        add("first.effine/."),
    ],
    "isn't a plain file": [
        add("link", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
        add("device", external_attr=(stat.S_IFCHR | 0o600) << 16),
    ],
    "is compressed or encrypted": [add("x", b"0" * 9999, compress_type=zipfile.ZIP_DEFLATED)],
    "occurs twice": [lambda entries: [*entries, entries[-1]]],
    "isn't part of": [add("x"), add("first.effine/x"), add("backbones/x"), add("other/x")],
    "missing": [lambda entries: entries[:-1]],
    "no bundle.json": [lambda entries: entries[2:]],
    "signature of bundle.json": [newer],
    "predict.pte": [replace_content("first.effine/predict.pte", bytes(300))],
    "has 3 bytes": [replace_content("first.effine/predict.pte", bytes(3))],
    "signature of manifest.json": [replace_content("first.effine/manifest.sig", bytes(70))],
}
