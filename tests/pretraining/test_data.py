import contextlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from drawn import drawn, encoded, put, write_pictures
from maekit.data.loader import DataConfig
from maekit.errors import DataError
from maekit.pretraining import data
from maekit.pretraining.data import channel_statistics, most_common_channels, split, survey


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


@pytest.mark.parametrize(
    ("number", "held"), [(2, 0), (9, 0), (10, 2), (100, 8), (1000, 20), (100_000, 1000)]
)
def test_split__holds_out_a_bounded_share(number, held):
    class Source:
        def __len__(self):
            return number

        def name(self, index):
            return str(index)

        def read(self, index):
            raise AssertionError

    train, val = split(Source(), DataConfig(dir=Path("x")), seed=0)
    assert (len(train), len(val)) == (number - held, held)
    assert not set(train.indices.tolist()) & set(val.indices.tolist())
    assert (
        split(Source(), DataConfig(dir=Path("x")), seed=0).val.indices.tolist()
        == val.indices.tolist()
    )


def test_channel_statistics__are_remembered(tmp_path, monkeypatch):
    found, source = survey(DataConfig(dir=write_pictures(tmp_path / "p", 5)), silent, "any")
    one = channel_statistics(source, found, (16, 16), 3, silent)
    monkeypatch.setattr(data, "measure_channels", None)  # would fail if it were called
    assert channel_statistics(source, found, (16, 16), 3, silent) == one
