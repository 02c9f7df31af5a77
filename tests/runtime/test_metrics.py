import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from effine.runtime.errors import EffineError
from effine.runtime.metrics import macro_f1, pearson, spearman
from effine.runtime.tasks import Samples, find_task


def evaluate(task, outputs, labels):
    count = len(outputs)
    samples = Samples([None] * count, [None] * count, np.arange(count), labels, 0)
    return find_task(task).evaluate(list(outputs), samples, [])


@pytest.mark.parametrize("seed", range(5))
def test_classification_agrees_with_sklearn(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(60, 7)).astype(np.float32)
    logits[:, 6] = -1e4
    labels = random.integers(0, 5, 60)
    metrics = evaluate("classification", logits, labels)
    predicted = logits.argmax(axis=1)
    assert list(metrics) == ["accuracy", "macro_f1"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_macro_f1_counts_classes_of_labels_and_of_predictions():
    labels, predicted = np.array([0, 0, 1]), np.array([0, 2, 2])
    expected = f1_score(labels, predicted, average="macro")
    assert macro_f1(predicted, labels) == pytest.approx(expected)
    assert macro_f1(predicted, labels) == pytest.approx((2 / 3 + 0 + 0) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_regression_agrees_with_scipy(seed):
    random = np.random.default_rng(seed)
    scores = np.round(random.uniform(1, 5, 80), 1).astype(np.float32)
    outputs = (scores + random.normal(size=80)).astype(np.float32).reshape(-1, 1)
    outputs[:10] = 3.0
    metrics = evaluate("regression", outputs, scores)
    flat = outputs[:, 0].astype(np.float64)
    assert list(metrics) == ["pearson", "spearman", "mse"]
    assert metrics["pearson"] == pytest.approx(stats.pearsonr(flat, scores).statistic)
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(flat, scores).statistic)
    assert metrics["mse"] == pytest.approx(np.mean((flat - scores) ** 2))


@pytest.mark.filterwarnings("ignore:F-score is ill-defined")
@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, -100.0])
def test_multilabel_agrees_with_sklearn(bias):
    random = np.random.default_rng(0)
    applying = random.random((50, 6)) < [0.5, 0.3, 0.1, 0.02, 0.0, 0.9]
    logits = (random.normal(size=(50, 5)) + bias).astype(np.float32)
    logits[:, 4] = -3.0
    metrics = evaluate("multilabel", logits, applying.astype(np.float32))
    predicted = logits > 0
    assert list(metrics) == ["micro_f1", "macro_f1"]
    for average in ("micro", "macro"):
        expected = f1_score(applying[:, :5], predicted, average=average)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_correlations_of_degenerate_data(correlation):
    rising = np.arange(3.0)
    constant = np.full(3, 0.1)
    assert correlation(constant, rising) == 0.0
    assert correlation(rising, constant) == 0.0
    assert correlation(rising[:1], rising[:1]) == 0.0
    assert correlation(rising * 1e-300, rising) == pytest.approx(1.0)
    assert correlation(-rising, rising) == pytest.approx(-1.0)


def test_the_main_metric_is_the_first():
    assert find_task("classification").metrics[0] == "accuracy"
    assert find_task("multilabel").metrics[0] == "micro_f1"
    assert find_task("regression").metrics[0] == "pearson"
    assert find_task("token-classification").metrics[0] == "entity_f1"
    with pytest.raises(EffineError, match="'ranking' is unknown; use one of classification"):
        find_task("ranking")
