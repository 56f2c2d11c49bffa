import pytest
import torch

from loops import training
from maekit.data.loader import Batch
from maekit.pretraining.estimate import Estimate, measure


def test_images_per_s__the_slower_one_or_both_in_turn():
    estimate = Estimate(load_images_per_s=300.0, compute_images_per_s=150.0, memory_bytes=1.0)
    assert estimate.images_per_s(shares_cores=False) == 150.0
    assert estimate.images_per_s(shares_cores=True) == pytest.approx(100.0)


def test_measure__a_run_of_one_batch(monkeypatch):
    monkeypatch.setattr("maekit.pretraining.estimate._COMPUTE_SECONDS", 0.01)
    batch = Batch(torch.ones(4, 3, 2, 2), torch.ones(4, 1), torch.arange(4), [])
    estimate = measure(training(), iter([batch]))
    assert estimate.load_images_per_s > 0
    assert estimate.compute_images_per_s > 0
