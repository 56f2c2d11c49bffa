import os
import pickle
import time

import pytest

from drawn import put, write_link_loops, write_messy_folder, write_pictures
from maekit.data.listing import PathTable, check_outside, list_pictures, pictures_of
from maekit.errors import ConfigError, DataError


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


def test_check_outside__folders_lists_and_pictures(tmp_path):
    folder = write_pictures(tmp_path / "pics", 2)
    listed = tmp_path / "list.txt"
    listed.write_text("pics/class0/000.png\n")
    beside = put(tmp_path / "a.png", (folder / "class0" / "000.png").read_bytes())
    for out, pictures in (
        (folder / "run", folder),
        (folder / "class0" / "run", listed),
        (tmp_path, beside),
        (folder / "class0", folder / "class0" / "000.png"),
    ):
        with pytest.raises(ConfigError, match="nothing is ever written"):
            check_outside(out, pictures)
    check_outside(tmp_path / "run", listed)
    check_outside(tmp_path / "run", beside)  # people work where their picture lies
    check_outside(tmp_path / "run", folder)


def test_pictures_of__keep_the_order_given(tmp_path):
    folder = write_pictures(tmp_path / "pics", 6)
    one = folder / "class1" / "001.png"
    paths, named = pictures_of((one, folder / "class0"))
    assert paths[0] == one
    assert [path.name for path in paths[1:]] == ["000.png", "002.png", "004.png"]
    assert named == {one}
    paths, _ = pictures_of([folder], most=2)
    assert len(paths) == 2
    with pytest.raises(DataError, match="There is no folder or file"):
        pictures_of([folder / "none.txt"])
    with pytest.raises(DataError, match="No picture was given"):
        pictures_of([])
