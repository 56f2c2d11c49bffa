import contextlib

import numpy as np
import pytest
import tifffile

from drawn import drawn, encoded, put, write_pictures
from maekit.data.loader import DataConfig
from maekit.data.opening import most_common_channels, survey
from maekit.errors import DataError


@contextlib.contextmanager
def silent(title):
    yield lambda done, total: None


def test_survey__pictures_of_other_channels_are_named(tmp_path):
    folder = write_pictures(tmp_path / "p", 12)
    put(folder / "grey.png", encoded(drawn(3).convert("L"), "PNG"))
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8, 5), dtype=np.uint8))

    tifffile.imwrite(
        folder / "bands.tif",
        np.zeros((8, 8, 5), dtype=np.uint8),
        photometric="minisblack",
        planarconfig="contig",
    )
    found, source = survey(DataConfig(dir=folder), silent, "most")
    assert most_common_channels(found) == 3
    assert len(source) == 13
    assert [skip.reason for skip in found.skips] == [
        "has 5 channels where 3 are expected (model.in_channels)"
    ]
    with pytest.raises(DataError, match="None of the 3 pictures"):
        survey(DataConfig(dir=tmp_path / "x.npy"), silent, 3)
