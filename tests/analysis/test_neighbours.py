import pytest
import torch

from maekit.analysis.neighbours import knn_classify


def test_knn__equals_scikit_learn_with_its_weights():
    neighbors = pytest.importorskip("sklearn.neighbors")
    torch.manual_seed(0)
    train, labels, queries = torch.randn(120, 8), torch.randint(0, 4, (120,)), torch.randn(50, 8)
    # Cosine distance is 1 - similarity; the weights differ by a common factor only.
    classifier = neighbors.KNeighborsClassifier(
        20,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: 2.718281828 ** (-distance / 0.07),
    )
    expected = classifier.fit(train.numpy(), labels.numpy()).predict(queries.numpy())
    assert knn_classify(train, labels, queries).tolist() == expected.tolist()


def test_knn__more_neighbours_than_vectors():
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert knn_classify(train, torch.tensor([0, 1]), torch.tensor([[0.9, 0.2]]), k=50).tolist() == [
        0
    ]
