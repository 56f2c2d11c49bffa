import pytest
import torch

from maekit.analysis.probes import accuracy, fit_linear_probe


def blobs(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    centres = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 9.0]])
    return centres[labels] + torch.randn(number, 4, generator=generator), labels


def test_probe__agrees_with_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (queries, truth) = blobs(300), blobs(200, seed=1)
    probe = fit_linear_probe(x, y)
    standardise = lambda t: ((t - probe.mean) / probe.std).numpy()  # noqa: E731
    # scikit-learn's penalty is |w|²/(2C) beside a sum over samples.
    strength = 1 / (2 * probe.penalty * len(x))
    model = linear_model.LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(
        standardise(x), y.numpy()
    )
    expected = torch.tensor(model.predict(standardise(queries)))
    assert accuracy(probe.predict(queries), expected) > 0.99
    assert accuracy(probe.predict(queries), truth) > 0.85


def test_probe__constant_features_do_no_harm():
    x, y = blobs(60)
    x[:, 0] = 5.0
    assert fit_linear_probe(x, y).weight.isfinite().all()


def test_accuracy__by_hand():
    assert accuracy(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])) == 0.75
