import pytest
import torch

from maekit.analysis.probes import accuracy, choose_penalty, fit_linear_probe


def blobs(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    centres = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 9.0]])
    return centres[labels] + torch.randn(number, 4, generator=generator), labels


def test_probe__agrees_with_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (queries, truth) = blobs(300), blobs(200, seed=1)
    penalty, _ = choose_penalty(x[:240], y[:240], x[240:], y[240:], 3)
    probe = fit_linear_probe(x, y, 3, penalty)
    standardise = lambda t: ((t - probe.mean) / probe.std).numpy()  # noqa: E731
    # scikit-learn's penalty is |w|²/(2C) beside a sum over samples.
    strength = 1 / (2 * probe.penalty * len(x))
    model = linear_model.LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(
        standardise(x), y.numpy()
    )
    expected = torch.from_numpy(model.predict_proba(standardise(queries))).float()
    torch.testing.assert_close(probe.probabilities(queries), expected, rtol=0, atol=1e-3)
    assert accuracy(probe.probabilities(queries).argmax(1), truth) > 0.85


def test_probe__constant_features_do_no_harm():
    x, y = blobs(60)
    x[:, 0] = 5.0
    assert fit_linear_probe(x, y, 3, 1e-3).weight.isfinite().all()


def test_choose_penalty__among_equals_the_strongest():
    x, y = blobs(90)
    far = x + 100 * y[:, None]
    assert choose_penalty(far, y, far, y, 3, [1e-5, 1e-2]) == (1e-2, 1.0)


def test_accuracy__by_hand():
    assert accuracy(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])) == 0.75
