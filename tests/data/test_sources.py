import os
import pickle
import time

import numpy as np
import pytest

from drawn import drawn, encoded, put, write_link_loops, write_messy_folder, write_pictures
from maekit.data.sources import (
    ArraySource,
    FileSource,
    PathTable,
    Subset,
    is_array,
    list_pictures,
    open_array,
)
from maekit.errors import DataError


def test_path_table__odd_names_survive():
    names = ["", "a b.png", "ü/雪.jpg", os.fsdecode(b"bad\xff.png")]
    table = pickle.loads(pickle.dumps(PathTable.of(names)))
    assert list(table) == names
    assert list(table[1:3]) == names[1:3]
    with pytest.raises(IndexError):
        table[4]


def test_list_pictures__messy_folder(tmp_path):
    listing = list_pictures(write_messy_folder(tmp_path / "m"))
    names = list(listing.paths)
    assert len(names) == 16
    assert "UPPER.JPG" in names
    assert not [name for name in names if "MACOSX" in name or "/." in name or name.startswith(".")]
    assert listing.notes == ("1 other files",)  # notes.txt; hidden ones are nobody's business


def test_list_pictures__links(tmp_path):
    started = time.monotonic()
    listing = list_pictures(write_link_loops(tmp_path / "loops"))
    assert list(listing.paths) == ["a/x.jpg", "a/b/y.jpg"]
    assert "1 links that lead nowhere" in listing.notes
    assert "1 links to files that are listed already" in listing.notes
    assert time.monotonic() - started < 1


def test_list_pictures__order_does_not_depend_on_creation(tmp_path):
    for folder, numbers in (("a", range(9)), ("b", reversed(range(9)))):
        for number in numbers:
            put(tmp_path / folder / f"{number}.png", b"x")
    assert list(list_pictures(tmp_path / "a").paths) == list(list_pictures(tmp_path / "b").paths)


def test_list_pictures__list_files(tmp_path):
    write_pictures(tmp_path / "p", 3, classes=1)
    (tmp_path / "all.txt").write_text("p/class0/002.png\np/class0/000.png\n\np/none.png\n")
    (tmp_path / "all.csv").write_text("label,path\nx,p/class0/001.png\n")
    assert list(list_pictures(tmp_path / "all.txt").paths) == [
        "p/class0/002.png",
        "p/class0/000.png",
        "p/none.png",
    ]
    assert list(list_pictures(tmp_path / "all.csv").paths) == ["p/class0/001.png"]
    (tmp_path / "bad.csv").write_text("file\nx.png\n")
    with pytest.raises(DataError, match="needs a column named 'path'"):
        list_pictures(tmp_path / "bad.csv")


@pytest.mark.parametrize("name", ["none", "empty", "x.pdf"])
def test_list_pictures__nothing_there(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"no folder or file|holds no picture|neither a folder"):
        list_pictures(tmp_path / name)


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
