import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.errors import ConfigError
from maekit.patches import Grid, patchify, unpatchify


@given(
    h=st.integers(1, 4), w=st.integers(1, 4), p=st.integers(1, 5), c=st.sampled_from([1, 3, 4, 13])
)
@settings(max_examples=40, deadline=None)
def test_unpatchify__undoes_patchify(h, w, p, c):
    images = torch.rand(2, c, h * p, w * p)
    patches = patchify(images, p)
    assert patches.shape == (2, h * w, p * p * c)
    assert torch.equal(unpatchify(patches, Grid(h, w, p)), images)


def test_patchify__order_is_the_references(golden_outputs):
    assert torch.equal(patchify(golden_outputs["images"], 8), golden_outputs["patchify"])


def test_grid__names_the_side_and_a_size_that_fits():
    with pytest.raises(ConfigError, match=r"height of 30 px .* patch size of 8 px; use 32 px"):
        Grid.of((30, 32), 8)


def test_unpatchify__wrong_number_of_patches():
    with pytest.raises(ValueError, match="6 patches do not fill a grid of 4"):
        unpatchify(torch.rand(1, 6, 4), Grid(2, 2, 2))
