import pytest
import torch

from maekit.targets import TARGETS, measure_baselines


@pytest.mark.parametrize("name", TARGETS)
def test_target__decode_undoes_encode(name):
    patches = torch.randn(2, 5, 48)
    target = TARGETS[name]
    torch.testing.assert_close(target.decode(target.encode(patches), patches), patches)


@pytest.mark.parametrize("name", TARGETS)
def test_target__constant_patch_stays_finite(name):
    target = TARGETS[name]
    flat = torch.full((1, 1, 12), 0.3)
    assert target.encode(flat).isfinite().all()
    torch.testing.assert_close(
        target.decode(torch.zeros(1, 1, 12) + target.encode(flat), flat), flat
    )


def test_norm_pixel__has_mean_0_and_unbiased_variance_1():
    encoded = TARGETS["norm_pixel"].encode(torch.rand(2, 3, 48) * 7)
    torch.testing.assert_close(encoded.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.var(-1), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_measure_baselines__by_hand():
    # Two patches of two pixels and two channels: red 0, 2 and 4, 4; green always 1.
    target = torch.tensor([[[0.0, 1.0, 2.0, 1.0], [4.0, 1.0, 4.0, 1.0]]])
    found = measure_baselines(target, in_channels=2)
    assert found.mean_colour == pytest.approx((2.5**2 + 0.5**2 + 1.5**2 * 2) / 8)
    assert found.patch_mean == pytest.approx((1 + 1) / 8)
