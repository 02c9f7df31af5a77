"""The manifest: exact text, strict reading, and look-ups."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from effine.runtime import manifest_fields as fields
from effine.runtime.codec import seal
from effine.runtime.errors import ArtifactError
from effine.runtime.manifest import Manifest
from tiny_artifact import make_manifest, make_programs

Document = dict[str, Any]


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


def refused(document: Document) -> str:
    """The message with which a manifest of this content is refused."""
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(seal(document))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def document(manifest: Manifest) -> Document:
    return json.loads(manifest.to_json())


def test_text_is_exact_and_hashes_itself(manifest: Manifest) -> None:
    text = manifest.to_json()
    loaded = json.loads(text)
    assert text == json.dumps(loaded, indent=1, ensure_ascii=False) + "\n"
    zeroed = text.replace(loaded["sha256"], "0" * 64)
    assert loaded["sha256"] == hashlib.sha256(zeroed.encode()).hexdigest()
    assert " ".join(loaded) == (
        "schema effine target torch name method backbone task tokens optimizer recipe "
        "shapes programs state state_id transitions tolerances memory frozen_head files sha256"
    )


def test_round_trip_is_identical_bytes(manifest: Manifest) -> None:
    text = manifest.to_json()
    read = Manifest.from_json(text)
    assert read.to_json() == text
    assert read.sha256 == json.loads(text)["sha256"]
    assert read.shapes.seqs == (16, 32)
    assert read.method_info.options == {"size": 16, "scale": 0.5, "names": ["a"]}
    assert type(read.optimizer.weight_decay) is float


def test_any_changed_byte_is_refused(manifest: Manifest) -> None:
    raw = manifest.to_json().encode()
    for position in [*range(0, len(raw), 97), *range(len(raw) - 90, len(raw))]:
        changed = bytearray(raw)
        changed[position] ^= 0x01
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            Manifest.from_json(changed.decode())


@pytest.mark.parametrize("text", ["", "{}", "null", '{"schema": 1}\n'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        Manifest.from_json(text)


def test_newer_schema(document: Document) -> None:
    message = refused(document | {"schema": 3, "surprise": True})
    assert message == (
        "manifest.json: schema 3 is newer than this version reads (2); update effine"
    )


def test_missing_and_unknown_keys(document: Document) -> None:
    del document["shapes"]["batch"]
    assert "shapes: missing 'batch'" in refused(document)
    document["shapes"] |= {"batch": 4, "more": 1}
    assert "shapes: unknown 'more'" in refused(document)


def put(*path: str | int) -> Callable[[Document, Any], None]:
    def change(document: Document, value: Any) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


INPUT = ("programs", "train", "methods", "train_b4_s32", "inputs", 0)
CHANGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("schema",), 0, "schema: 0 is unknown"),
    (("schema",), "1", "schema: '1' is not of type int"),
    (("shapes", "batch"), 0, "shapes.batch: 0 is not between"),
    (("shapes", "batch"), True, "shapes.batch: True is not of type int"),
    (("shapes", "seqs"), [32, 16], "not ascending"),
    (("shapes", "seqs"), [], "not ascending"),
    (("shapes", "seqs"), 32, "not a JSON list"),
    (("tokens", "max_length"), 16, "not ascending up to tokens.max_length"),
    (("tokens", "inputs"), ["pixels"], "one of input_ids"),
    (("name",), "x" * 2000, "shorter"),
    (("recipe", "warmup"), 1.5, "recipe.warmup: 1.5 is not between 0 and 1"),
    (("recipe", "schedule"), "cubic", "one of constant, linear, cosine"),
    (("recipe", "epochs"), 10**30, "recipe.epochs"),
    (("state", 0, "shape"), [10**5, 10**5], "state[0].shape"),
    (("state", 0, "shape"), [-1], "state[0].shape[0]: -1"),
    (("state", 0, "shape"), [1] * 9, "of rank 8 or less"),
    (("state", 0, "shape"), [3], "isn't in the state as declared"),
    (("state", 0, "dtype"), "float16", "state[0].dtype"),
    (("state", 0, "role"), "gradient", "one of parameter, moment, statistic"),
    (("state", 0, "name"), "piece.bias", "state: a name occurs twice"),
    (("state", 0, "name"), "a b", "state[0].name"),
    (("state", 0, "group"), "", "state[0].group"),
    (("task", "labels"), ["a", "a"], "task.labels: a name occurs twice"),
    (("task", "labels"), ["a", "b"], "state_id"),
    (("task", "labels"), ["a"] * 100_001, "more than 100000"),
    (("task", "spare_labels"), -1, "task.spare_labels: -1"),
    (("backbone", "sha256"), "ab", "backbone.sha256"),
    (("frozen_head",), {}, "frozen_head: missing"),
    (("transitions",), [1], "transitions[0]: 1 is not a JSON object"),
    (("programs", "train", "file"), "../train.pte", "plain file name"),
    (("programs", "train", "file"), "other.pte", "isn't among the files"),
    ((*INPUT, "role"), "secret", "one of token"),
    ((*INPUT, "name"), "piece.bias", "input or output twice"),
    ((*INPUT, "dtype"), "complex64", "one of float32"),
    (("files", "a/b"), {"size": 1, "sha256": "ab" * 32}, "plain file name"),
    (("files", ".."), {"size": 1, "sha256": "ab" * 32}, "plain file name"),
    (("files", "manifest.json"), {"size": 1, "sha256": "ab" * 32}, "can't be listed"),
    (("files", "train.pte", "size"), -1, "files.train.pte.size"),
    (("files", "train.pte", "size"), 2**60, "files.train.pte.size"),
]


@pytest.mark.parametrize(("path", "value", "expected"), CHANGES, ids=str)
def test_strictness(
    document: Document, path: tuple[str | int, ...], value: Any, expected: str
) -> None:
    files = ("backbone.pte", "train.pte", "predict.pte")
    document["files"] = {name: {"size": 1, "sha256": "ab" * 32} for name in files}
    Manifest.from_json(seal(document))
    put(*path)(document, value)
    assert expected in refused(document)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema": 1,', '"schema": 1,\n "schema": 1,'),
        ('"score": 0.75', '"score": NaN'),
        ('"score": 0.75', '"score": 1e999'),
        ('"name": "größe"', '"name": "\\ud800"'),
        ('"pair": false', '"pair": ' + "[" * 100_000),
    ],
    ids=["twice", "NaN", "overflow", "surrogate", "nested"],
)
def test_json_that_others_might_accept(manifest: Manifest, old: str, new: str) -> None:
    text = manifest.to_json()
    assert old in text
    body = text.replace(old, new)[: -len('"sha256": ""\n}\n') - 64]
    zeros = '"sha256": "' + "0" * 64 + '"\n}\n'
    digest = hashlib.sha256((body + zeros).encode()).hexdigest()
    with pytest.raises(ArtifactError, match=r"manifest\.json: ") as caught:
        Manifest.from_json(body + zeros.replace("0" * 64, digest))
    assert "damaged" not in str(caught.value)


def test_state_id_follows_what_a_checkpoint_depends_on(manifest: Manifest) -> None:
    method, task, backbone = manifest.method_info, manifest.task, manifest.backbone
    replace = dataclasses.replace
    onnx = fields.TargetInfo("onnx", "1.23.2", 20)
    same = make_manifest(target=onnx, recipe=replace(manifest.recipe, epochs=9), name="b")
    assert same.state_id == manifest.state_id
    state = (replace(manifest.state[0], group="head"), *manifest.state[1:])
    others = [
        make_manifest(method=replace(method, name="lora")),
        make_manifest(method=replace(method, options={"size": 8})),
        make_manifest(method=replace(method, first_layer=None)),
        make_manifest(backbone=replace(backbone, sha256="cd" * 32)),
        make_manifest(task=replace(task, labels=("nein", "ja", "weiß nicht"))),
        make_manifest(task=replace(task, spare_labels=2)),
        make_manifest(state=state, programs=make_programs(state)),
    ]
    assert len({other.state_id for other in (*others, manifest)}) == len(others) + 1


def test_look_ups(manifest: Manifest) -> None:
    assert [entry.name for entry in manifest.parameters] == [
        "piece.weight", "piece.bias", "head.bias"
    ]  # fmt: skip
    assert [manifest.seq_for(n) for n in (1, 16, 17, 32)] == [16, 16, 32, 32]
    with pytest.raises(ValueError, match="33"):
        manifest.seq_for(33)
    assert manifest.backbone_method(4, 16)[0] == "backbone_b4_s16"
    name, method = manifest.train_method(16)
    assert name == "train_b4_s32"
    assert method is manifest.method(name)
    assert manifest.predict_method(1, 16)[0] == "predict_b1_s32"
    assert manifest.program_of(name).file == "train.pte"
    for look_up in (
        lambda: manifest.train_method(64),
        lambda: manifest.predict_method(2, 16),
        lambda: manifest.backbone_method(4, 64),
        lambda: manifest.method("absent"),
    ):
        with pytest.raises(ArtifactError, match="has no"):
            look_up()
