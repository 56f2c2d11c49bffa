import numpy as np
import pytest

from maekit.data.sources import ArraySource
from maekit.data.statistics import measure_channels
from maekit.errors import DataError


def silent(done, total):
    pass


def test_measure_channels__equals_numpy(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (50, 8, 8, 4)).astype(np.uint8)
    found = measure_channels(ArraySource(tmp_path / "x.npy", images), (8, 8), 4, silent)
    assert found.mean == pytest.approx(images.mean((0, 1, 2)) / 255, rel=1e-5)
    assert found.std == pytest.approx(images.std((0, 1, 2)) / 255, rel=1e-5)


def test_measure_channels__flat_pictures_and_flat_channels(tmp_path):
    flat = np.full((5, 8, 8), 9, dtype=np.uint8)
    with pytest.raises(DataError, match="one flat colour"):
        measure_channels(ArraySource(tmp_path / "x.npy", flat), (8, 8), 1, silent)
    half = np.zeros((5, 8, 8, 2), dtype=np.uint8)
    half[:, ::2, :, 0] = 255
    assert min(measure_channels(ArraySource(tmp_path / "x.npy", half), (8, 8), 2, silent).std) > 0
