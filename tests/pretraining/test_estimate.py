import pytest

from maekit.pretraining.estimate import Estimate


def test_images_per_s__the_slower_one_or_both_in_turn():
    estimate = Estimate(load_images_per_s=300.0, compute_images_per_s=150.0, memory_bytes=1.0)
    assert estimate.images_per_s(shares_cores=False) == 150.0
    assert estimate.images_per_s(shares_cores=True) == pytest.approx(100.0)
