import pytest
import torch
from safetensors.torch import load_file

from conftest import GOLDEN
from maekit.errors import ConfigError
from maekit.patches import Grid
from maekit.positions import sincos_1d, sincos_2d


@pytest.mark.parametrize(("dim", "side"), [(64, 4), (768, 14)])
def test_sincos_2d__equals_the_reference(dim, side):
    expected = load_file(GOLDEN / "pos_embed_sincos2d.safetensors")[f"d{dim}_g{side}_cls"].float()
    torch.testing.assert_close(
        sincos_2d(Grid(side, side, 16), dim), expected[1:], rtol=0, atol=1e-7
    )
    assert not expected[0].any()  # the class token's row


def test_sincos_2d__first_half_is_the_column_on_rectangles():
    table = sincos_2d(Grid(2, 3, 8), 8).reshape(2, 3, 8)
    assert torch.equal(table[0, :, :4], table[1, :, :4])
    assert torch.equal(table[:, 0, 4:], table[:, 2, 4:])
    assert len({tuple(row.tolist()) for row in table.reshape(6, 8)}) == 6


def test_sincos_1d__numbers_patches_in_reading_order():
    assert torch.equal(sincos_1d(Grid(2, 3, 8), 8), sincos_1d(Grid(3, 2, 8), 8))


@pytest.mark.parametrize(("function", "dim"), [(sincos_2d, 6), (sincos_1d, 5)])
def test_sincos__width_that_does_not_divide(function, dim):
    with pytest.raises(ConfigError, match=f"got {dim}"):
        function(Grid(2, 2, 8), dim)
