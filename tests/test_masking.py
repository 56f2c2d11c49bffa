import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.errors import ConfigError
from maekit.masking import MaskingConfig, given_mask, masked_from, num_visible, random_mask, take


@given(n=st.integers(2, 300), ratio=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_random_mask__hides_as_many_in_every_image(n, ratio):
    kept = int(round(n * (1 - ratio), 9))
    if not 0 < kept < n:
        with pytest.raises(ConfigError, match="at least one visible and one hidden"):
            num_visible(n, ratio)
        return
    mask = random_mask(torch.rand(3, n), ratio)
    assert mask.visible.shape == (3, kept)
    assert mask.masked.sum(1).tolist() == [n - kept] * 3
    assert not mask.masked.gather(1, mask.visible).any()  # True means hidden


@pytest.mark.parametrize(
    ("n", "ratio", "kept"), [(100, 0.9, 10), (400, 0.9, 40), (196, 0.75, 49), (16, 0.75, 4)]
)
def test_num_visible__is_not_fooled_by_float_truncation(n, ratio, kept):
    assert num_visible(n, ratio) == kept


def test_random_mask__agrees_with_the_reference(golden_outputs):
    for ratio, name in ((0.75, "r75"), (0.5, "r50")):
        mask = random_mask(golden_outputs["noise"], ratio)
        assert torch.equal(mask.masked, golden_outputs[f"{name}.pixel.mask"].bool())


def test_given_mask__lists_visible_in_reading_order():
    masked = torch.tensor([[True, False, True, False]])
    assert given_mask(masked).visible.tolist() == [[1, 3]]
    assert torch.equal(masked_from(given_mask(masked).visible, 4), masked)


@pytest.mark.parametrize(
    ("masked", "message"),
    [
        ([[True, False], [True, True]], "same number"),
        ([[True, True]], "at least one"),
        ([[False, False]], "at least one"),
    ],
)
def test_given_mask__refuses(masked, message):
    with pytest.raises(ValueError, match=message):
        given_mask(torch.tensor(masked))


def test_take__picks_by_index():
    tokens = torch.arange(12.0).reshape(1, 4, 3)
    assert torch.equal(take(tokens, torch.tensor([[2, 0]])), tokens[:, [2, 0]])


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1])
def test_config__ratio_out_of_range(ratio):
    with pytest.raises(ConfigError, match="mask_ratio must lie between 0 and 1"):
        MaskingConfig(mask_ratio=ratio)
