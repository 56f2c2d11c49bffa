import pytest
import torch

from maekit.analysis.classification import (
    bootstrap_interval,
    calibration_error,
    confusion,
    score_classification,
)

CLASSES = [f"c{number}" for number in range(7)]


@pytest.fixture
def guesses():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(7, (300,), generator=generator)
    scores = torch.randn(300, 7, generator=generator)
    scores[torch.arange(300), labels] += 1.0
    return scores.softmax(1), labels


def test_score_classification__as_scikit_learn(guesses):
    metrics = pytest.importorskip("sklearn.metrics")
    probabilities, labels = guesses
    predicted = probabilities.argmax(1)
    scores = score_classification(probabilities, labels, CLASSES)
    assert scores.top1 == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score(labels, predicted)
    )
    assert scores.top5 == pytest.approx(
        metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(7))
    )
    assert scores.log_loss == pytest.approx(
        metrics.log_loss(labels, probabilities.numpy(), labels=range(7)), rel=1e-5
    )
    expected = metrics.confusion_matrix(labels, predicted)
    assert confusion(predicted, labels, 7).tolist() == expected.tolist()


def test_score_classification__classes_that_do_not_occur_count_in_no_mean():
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    scores = score_classification(probabilities, torch.tensor([0, 0]), ["a", "b", "c"])
    assert scores.top1 == 0.5
    assert scores.balanced_accuracy == 0.5
    assert scores.top5 is None
    assert scores.per_class[2].recall is None


def test_bootstrap_interval__holds_the_mean_and_narrows(guesses):
    right = torch.tensor([1.0, 0.0] * 50, dtype=torch.double)
    low, high = bootstrap_interval(right)
    assert 0.38 < low < 0.5 < high < 0.62
    low4, high4 = bootstrap_interval(right.repeat(16))
    assert high4 - low4 < (high - low) / 3


def test_calibration_error__by_hand():
    confidence = torch.tensor([0.9, 0.9, 0.3, 0.3])
    right = torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert calibration_error(confidence, right) == pytest.approx((0.2 + 0.4) / 4, abs=1e-6)
