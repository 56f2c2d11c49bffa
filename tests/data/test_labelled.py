import contextlib
import shutil

import numpy as np
import pytest

from drawn import drawn, encoded, put, write_pictures
from maekit.data.labelled import LabelConfig, load_labelled
from maekit.errors import ConfigError, DataError


@contextlib.contextmanager
def silent(title):
    yield lambda done, total: None


def load(folder, **settings):
    return load_labelled(LabelConfig(dir=folder, **settings), 3, 0, silent)


@pytest.fixture
def label_spaces(tmp_path):
    """Training on a, b and c; tests that lack a class, have another, or have one only."""
    root = tmp_path / "spaces"
    for split, classes in {"train": "abc", "missing": "bc", "extra": "bcd", "one": "b"}.items():
        for letter in classes:
            for index in range(4):
                picture = drawn(ord(letter) * 10 + index + len(split) * 1000, 24, 24)
                put(root / split / letter / f"{index}.png", encoded(picture, "PNG"))
    put(root / "train" / ".ipynb_checkpoints" / "a.png", encoded(drawn(1), "PNG"))
    (root / "train" / "zz_empty").mkdir()
    return root


def with_test(root, name):
    shutil.copytree(root / name, root / "test")
    return root


def test_load_labelled__classes_are_matched_by_name(label_spaces):
    data = load(with_test(label_spaces, "missing"))
    assert data.classes == ["a", "b", "c"]
    assert sorted(data.test.labels.tolist()) == [1] * 4 + [2] * 4
    assert any("zz_empty" in note for note in data.notes)
    assert any("no test picture of a" in note for note in data.notes)


def test_load_labelled__an_extra_class_is_named(label_spaces):
    with pytest.raises(DataError, match="classes that training lacks: d"):
        load(with_test(label_spaces, "extra"))


def test_load_labelled__one_class_in_test_or_training(label_spaces):
    assert load(with_test(label_spaces, "one")).test.labels.tolist() == [1] * 4
    with pytest.raises(DataError, match="one class only"):
        load(label_spaces / "one")


def test_load_labelled__one_root_is_divided_class_by_class(tmp_path):
    folder = write_pictures(tmp_path / "p", 40)
    one, two = load(folder), load(folder)
    assert one.test.labels.tolist() == two.test.labels.tolist()
    assert np.bincount(one.test.labels).tolist() == [4, 4]
    names = [
        {part.source.name(index) for index in range(len(part))}
        for part in (one.train, one.val, one.test)
    ]
    assert len(set.union(*names)) == sum(map(len, names)) == 40


def test_load_labelled__val_alone_is_the_test_and_copies_are_counted(tmp_path):
    write_pictures(tmp_path / "d" / "train", 12)
    write_pictures(tmp_path / "d" / "val", 4)
    data = load(tmp_path / "d")
    assert len(data.test) == 4
    assert data.leaked == 4
    assert len(data.train) + len(data.val) == 12


def test_load_labelled__few_labels(tmp_path):
    data = load(write_pictures(tmp_path / "p", 40), labels_per_class=3)
    assert np.bincount(data.train.labels).tolist() == [2, 2]
    assert np.bincount(data.val.labels).tolist() == [1, 1]
    with pytest.raises(ConfigError, match="at least 2"):
        LabelConfig(dir=tmp_path, labels_per_class=1)


def test_load_labelled__csv(tmp_path):
    folder = write_pictures(tmp_path / "p", 12)
    lines = ["path,label,split"]
    for index in range(12):
        part = "test" if index > 7 else "train"
        lines.append(f"class{index % 2}/{index:03d}.png,kind {index % 2},{part}")
    (folder / "labels.csv").write_text("\n".join(lines))
    data = load(folder / "labels.csv")
    assert data.classes == ["kind 0", "kind 1"]
    assert len(data.test) == 4
    (folder / "labels.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert sum(map(len, load(folder / "labels.csv")[1:4])) == 12
    (folder / "labels.csv").write_text("file,kind\na,b")
    with pytest.raises(DataError, match="columns path and label"):
        load(folder / "labels.csv")


def test_load_labelled__flat_folders_and_missing_parts(tmp_path):
    write_pictures(tmp_path / "a" / "train", 6)
    with pytest.raises(DataError, match="neither test/ nor val/"):
        load(tmp_path / "a")
    put(tmp_path / "b" / "x.png", encoded(drawn(0), "PNG"))
    with pytest.raises(DataError, match="one folder a class"):
        load(tmp_path / "b")
