import pytest
import torch

from maekit.analysis.neighbours import choose_k, knn_probabilities


def test_knn__equals_scikit_learn_with_its_weights():
    neighbors = pytest.importorskip("sklearn.neighbors")
    torch.manual_seed(0)
    train, labels, queries = torch.randn(120, 8), torch.randint(0, 4, (120,)), torch.randn(50, 8)
    shares = knn_probabilities(train, labels, queries, 4, [5, 20])
    for k in (5, 20):
        # Cosine distance is 1 - similarity; the weights differ by a common factor only.
        classifier = neighbors.KNeighborsClassifier(
            k,
            metric="cosine",
            algorithm="brute",
            weights=lambda distance: 2.718281828 ** (-distance / 0.07),
        )
        expected = classifier.fit(train.numpy(), labels.numpy()).predict_proba(queries.numpy())
        torch.testing.assert_close(
            shares[k], torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5
        )


def test_knn__more_neighbours_than_vectors():
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[0.9, 0.2]])
    assert knn_probabilities(train, torch.tensor([0, 1]), query, 2, [50])[50].argmax() == 0


def test_choose_k__by_held_out_vectors():
    # One stray vector of the other class is the nearest: one neighbour errs, three do not.
    train = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.98, 0.2], [0.97, 0.26], [0.0, 1.0]])
    labels = torch.tensor([1, 0, 0, 0, 1])
    held, truth = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert choose_k(train, labels, held, truth, 2, [1, 3]) == (3, 1.0)
