import pickle

import numpy as np
import pytest

from drawn import drawn, encoded, put
from maekit.data.listing import PathTable
from maekit.data.sources import ArraySource, FileSource, Subset, is_array, open_array
from maekit.errors import DataError


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((5, 8, 9), (8, 9, 1)),
        ((5, 8, 9, 3), (8, 9, 3)),
        ((5, 3, 8, 9), (8, 9, 3)),
        ((5, 13, 40, 40), (40, 40, 13)),
        ((5, 9, 9, 198), (9, 9, 198)),
    ],
)
def test_open_array__layouts(tmp_path, shape, picture):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype=np.uint8))
    source = open_array(tmp_path / "a.npy", None)
    assert len(source) == 5
    assert source.read(2).shape == picture
    assert source.name(2) == "a.npy[2]"
    assert is_array(tmp_path / "a.npy")


def test_open_array__npz_chooses_by_name_or_asks(tmp_path):
    images = np.zeros((4, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "one.npz", pictures=images, labels=np.zeros(4))
    assert len(open_array(tmp_path / "one.npz", None)) == 4
    np.savez(tmp_path / "two.npz", a=images, b=images)
    with pytest.raises(DataError, match=r"choose with --data\.array: a, b"):
        open_array(tmp_path / "two.npz", None)
    assert len(open_array(tmp_path / "two.npz", "b")) == 4
    with pytest.raises(DataError, match="has no array 'c'"):
        open_array(tmp_path / "two.npz", "c")


def test_open_array__damaged_or_unsafe(tmp_path):
    put(tmp_path / "cut.npy", b"\x93NUMPY\x01\0")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(7))
    for name in ("cut.npy", "objects.npy", "flat.npy"):
        with pytest.raises(DataError):
            open_array(tmp_path / name, None)


def test_sources__pickle_and_name(tmp_path):
    put(tmp_path / "a.png", encoded(drawn(0), "PNG"))
    source = pickle.loads(pickle.dumps(FileSource(tmp_path, PathTable.of(["a.png"]), 10**6)))
    assert source.read(0).shape == (64, 96, 3)
    array = ArraySource(tmp_path / "x.npy", np.zeros((3, 4, 4), dtype=np.uint8))
    assert Subset(array, np.array([2, 0])).name(0) == "x.npy[2]"


def test_open_array__a_doubtful_layout_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 13, 20, 30), dtype=np.uint8))
    with pytest.raises(DataError, match=r"say which with --data\.array_layout"):
        open_array(tmp_path / "a.npy", None)
    assert open_array(tmp_path / "a.npy", None, "nchw").read(0).shape == (20, 30, 13)
