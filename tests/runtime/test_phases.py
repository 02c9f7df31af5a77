"""Transitions between phases, as any host applies them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from effine.runtime import manifest_fields as fields
from effine.runtime.codec import seal
from effine.runtime.errors import ArtifactError
from effine.runtime.manifest import Manifest
from effine.runtime.phases import Phase, Rows, StateTensor, Transition, moved, unmakeable
from tiny_artifact import make_manifest

LEARNERS = {"learners": np.array([4, 1]), "others": np.array([0, 2, 3])}
PARTS = [("wide.learners", (3, 2), "learners"), ("wide.others", (3, 3), "others")]
GATHER = tuple(Rows("wide", name, rows, 1) for name, _, rows in PARTS)
SCATTER = tuple(Rows(name, "wide", rows, 1) for name, _, rows in PARTS)


def tensor(name: str, shape: tuple[int, ...], role: str = "parameter") -> StateTensor:
    return StateTensor(name, shape, "float32", role, "pieces")


WHOLE = (tensor("wide", (3, 5)), tensor("wide.m", (3, 5), "moment"), tensor("bias", (5,)))
SPLIT = (
    *(tensor(name, shape) for name, shape, _ in PARTS),
    tensor("wide.learners.m", (3, 2), "moment"),
    tensor("bias", (5,)),
)


def state_of(layout: tuple[StateTensor, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {entry.name: random.normal(size=entry.shape).astype(np.float32) for entry in layout}


def test_rows_that_are_gathered_and_scattered_back_are_where_they_were() -> None:
    split = Transition(("prime",), "far", ("moment",), gather=GATHER)
    joined = Transition(("far",), "prime", ("moment",), scatter=SCATTER)
    state = state_of(WHOLE)
    parts = moved(split, SPLIT, state, LEARNERS)
    assert list(parts) == [entry.name for entry in SPLIT]
    assert (parts["wide.learners"] == state["wide"][:, [4, 1]]).all()
    assert (parts["wide.others"] == state["wide"][:, [0, 2, 3]]).all()
    assert not parts["wide.learners.m"].any()
    back = moved(joined, WHOLE, parts, LEARNERS)
    assert (back["wide"] == state["wide"]).all() and (back["bias"] == state["bias"]).all()
    assert not back["wide.m"].any()
    assert not list(unmakeable(split, WHOLE, SPLIT)) and not list(unmakeable(joined, SPLIT, WHOLE))


@pytest.mark.parametrize(
    ("transition", "before", "lacking"),
    [
        (Transition(("a",), "b", ()), WHOLE[:1], "'wide.m'"),
        (Transition(("a",), "b", ("moment",)), SPLIT, "'wide'"),
        (Transition(("a",), "b", ("moment",), scatter=SCATTER), WHOLE, "'wide.learners'"),
        (Transition(("a",), "b", ("moment",)), (tensor("wide", (5, 3)), WHOLE[2]), "'wide'"),
    ],
)
def test_a_transition_that_lacks_a_tensor_is_found(
    transition: Transition, before: tuple[StateTensor, ...], lacking: str
) -> None:
    assert any(lacking in problem for problem in unmakeable(transition, before, WHOLE))


def phased(**changes: Any) -> Manifest:
    """The made-up manifest with two phases over the same state; the second has no moments."""
    plain = make_manifest()
    train = plain.programs["train"].methods["train_b4_s32"]
    fewer = tuple(s for s in train.inputs if not s.name.endswith((".m", ".v")))
    methods = {"one_b4_s32": train, "two_b4_s32": dataclasses.replace(train, inputs=fewer)}
    parts: dict[str, Any] = {
        "programs": plain.programs | {"train": fields.Program("train.pte", methods)},
        "phases": {"one": Phase(0), "two": Phase(3)},
        "transitions": (
            Transition(("one", "two"), "two", ("moment", "statistic")),
            Transition(("two",), "one", ("moment",)),
        ),
    }
    return make_manifest(**{**parts, **changes})


def test_a_phase_has_its_own_methods_layout_and_depth() -> None:
    manifest = Manifest.from_json(phased().to_json())
    assert manifest.schema == 2 and manifest.first_phase == "one"
    assert [manifest.layers_below(phase) for phase in ("one", "two")] == [0, 3]
    assert manifest.train_method(16)[0] == "one_b4_s32"
    assert manifest.train_method(16, "two")[0] == "two_b4_s32"
    assert manifest.predict_method(1, 16, "two")[0] == "predict_b1_s32"
    assert len(manifest.layout("one")) == 9 and len(manifest.layout("two")) == 3
    assert manifest.transition("one", "two").restarts
    with pytest.raises(ArtifactError, match="can't go from phase one to one"):
        manifest.transition("one", "one")


def test_an_artifact_without_phases_stays_as_older_readers_know_it() -> None:
    text = make_manifest().to_json()
    assert '"schema": 1' in text and "phases" not in text
    assert Manifest.from_json(text).layout("train") == make_manifest().state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": {"three": Phase(0)}}, "'three' has no train method"),
        ({"transitions": (Transition(("one",), "six", ()),)}, "'six' is not a phase"),
        ({"transitions": (Transition(("two",), "one", ()),)}, "it lacks 'piece.weight.m'"),
    ],
)
def test_phases_that_can_not_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(phased(**changes).to_json())


def test_older_schemas_have_no_phases() -> None:
    text = phased().to_json().replace('"schema": 2', '"schema": 1')
    with pytest.raises(ArtifactError, match="of schema 1 has a backbone and no phases"):
        Manifest.from_json(seal(json.loads(text)))
