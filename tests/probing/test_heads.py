import pytest
import torch

from maekit.probing.heads import Examples, fit_attentive_probe, fit_sgd_probes, guess

CPU = torch.device("cpu")


def blobs(number, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    noise = torch.randn(number, *shape, generator=generator)
    noise[torch.arange(number), labels] += 4.0
    return Examples(noise, labels)


@pytest.mark.slow
def test_fit_sgd_probes__a_rate_each_and_the_same_alone():
    train, test = blobs(90, (6,)), blobs(60, (6,), seed=1)
    probes = fit_sgd_probes(train, 3, (0.03, 0.3), 0, CPU)
    guesses = [guess(probe, test.features, CPU) for probe in probes]
    assert all((g.argmax(1) == test.labels).float().mean() > 0.9 for g in guesses)
    assert not torch.equal(*guesses)


@pytest.mark.slow
def test_fit_sgd_probes__weights_follow_from_the_seed():
    train = blobs(60, (6,))
    first, second = (fit_sgd_probes(train, 3, (0.3,), 7, CPU)[0] for _ in range(2))
    assert torch.equal(first[1].weight, second[1].weight)


def test_fit_attentive_probe__finds_the_one_patch_that_tells():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(256) % 2
    tokens = 0.3 * torch.randn(256, 9, 8, generator=generator)
    places = torch.randint(9, (256,), generator=generator)
    tokens[torch.arange(256), places, 0] += 6.0  # which patch
    tokens[torch.arange(256), places, 1] += 6.0 * (2 * labels - 1)  # which class
    head = fit_attentive_probe(Examples(tokens[:192].half(), labels[:192]), 2, 200, 0, CPU)
    assert (guess(head, tokens[192:], CPU).argmax(1) == labels[192:]).float().mean() > 0.9
