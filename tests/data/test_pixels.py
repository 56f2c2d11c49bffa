import numpy as np
import pytest

from maekit.data.pixels import match_channels
from maekit.errors import DecodeError


def test_match_channels__grey_and_colour():
    grey = np.full((2, 2, 1), 7, dtype=np.uint8)
    assert match_channels(grey, 3).shape == (2, 2, 3)
    assert (match_channels(match_channels(grey, 3), 1) == 7).all()
    with pytest.raises(DecodeError, match="has 13 channels where 3 are expected"):
        match_channels(np.zeros((2, 2, 13), dtype=np.uint8), 3)
