import contextlib
from pathlib import Path

import pytest

from drawn import write_pictures
from maekit.data.loader import DataConfig
from maekit.data.opening import survey
from maekit.pretraining import data
from maekit.pretraining.data import channel_statistics, split


@contextlib.contextmanager
def silent(title):
    yield lambda done, total: None


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
