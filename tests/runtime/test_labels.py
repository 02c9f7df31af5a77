import numpy as np
import pytest
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.class_weight import compute_sample_weight

from effine.runtime.data import load_examples
from effine.runtime.errors import DataError
from effine.runtime.examples import Example
from effine.runtime.labels import (
    balanced_weights,
    encode_label_sets,
    encode_labels,
    labels_of,
)


def test_labels_are_distinct_and_sorted():
    examples = [Example("", label=label) for label in ("b", "B", "a", "b", "10", "9")]
    assert labels_of(examples) == ["10", "9", "B", "a", "b"]


def test_encoding_labels():
    examples = [Example("", label=label) for label in ("b", "a", "b")]
    encoded = encode_labels(examples, ["a", "b"])
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [1, 0, 1]


def test_an_unknown_label_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nhi,a\nho,new\n")
    examples = load_examples(path, "classification")
    with pytest.raises(DataError, match="line 3: unknown label 'new'; add it with") as error:
        encode_labels(examples, ["a"])
    message = str(error.value)
    assert message.startswith(str(path)) and "add_label" in message and "export again" in message
    with pytest.raises(DataError, match=r"^data\[0\]: unknown label 'z'"):
        encode_labels([Example("", label="z")], ["a"])


def test_balanced_weights_agree_with_sklearn():
    labels = np.random.default_rng(0).choice(5, 200, p=[0.6, 0.2, 0.15, 0.05, 0.0])
    weights = balanced_weights(labels, 5)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels), rtol=1e-6)


def test_encoding_sets_of_labels_agrees_with_sklearn():
    random = np.random.default_rng(0)
    names = ["d", "a", "c", "b"]
    chosen = [tuple(random.permutation(names)[: random.integers(0, 5)]) for _ in range(30)]
    encoded = encode_label_sets([Example("", labels=labels) for labels in chosen], names)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, MultiLabelBinarizer(classes=names).fit_transform(chosen))


def test_columns_of_spare_rows_are_zero():
    examples = [Example("", labels=("b",)), Example("", labels=())]
    assert encode_label_sets(examples, ["a", "b"], rows=4).tolist() == [[0, 1, 0, 0], [0] * 4]
    with pytest.raises(DataError, match="unknown label 'b'"):
        encode_label_sets(examples, ["a"])
    assert labels_of(examples) == ["b"]


def test_balanced_weights_of_several_labels():
    sets = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    raw = np.array([1 / 3, 1 / 3, (1 / 3 + 1) / 2, 1])
    weights = balanced_weights(sets, 3)
    np.testing.assert_allclose(weights, raw / raw.mean(), rtol=1e-6)
    padded = np.pad(sets, ((0, 0), (0, 2)))
    np.testing.assert_array_equal(balanced_weights(padded, 3), weights)


def test_balanced_weights_of_sets_of_one_are_those_of_single_labels():
    labels = np.random.default_rng(1).choice(4, 100, p=[0.5, 0.3, 0.2, 0.0])
    sets = np.eye(4, dtype=np.float32)[labels]
    np.testing.assert_allclose(balanced_weights(sets, 4), balanced_weights(labels, 4), rtol=1e-6)
