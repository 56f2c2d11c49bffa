import json
import os
import signal
import time

import numpy as np
import pytest

from drawn import bomb_png, drawn, encoded, put, write_messy_folder, write_pictures
from maekit.data import scan
from maekit.data.scan import file_source, survey_array, survey_files, write_skips
from maekit.data.sources import ArraySource, list_pictures
from maekit.errors import DataError

LIMIT = 100_000_000


def survey(folder, seen=None, workers=2):
    def progress(done, total):
        if seen is not None:
            seen.append((done, total))

    return survey_files(list_pictures(folder), folder, LIMIT, workers, progress)


def test_survey__messy_folder(tmp_path):
    found = survey(write_messy_folder(tmp_path / "m"))
    assert len(found.usable) == 12
    reasons = {skip.name: skip.reason for skip in found.skips}
    assert reasons.keys() == {"zero.jpg", "html.jpg", "trunc.jpg", "bitflip.png"}
    assert reasons["zero.jpg"] == "empty file"
    source = file_source(list_pictures(tmp_path / "m"), found, LIMIT)
    assert len(source) == 12
    assert all(source.read(index).shape == (64, 96, 3) for index in range(12))


def test_survey__second_time_reads_the_cache_and_notices_changes(tmp_path):
    folder = write_pictures(tmp_path / "p", 6)
    first, seen = [], []
    one = survey(folder, first)
    assert first[-1] == (6, 6)
    two = survey(folder, seen)
    assert not seen
    assert one.fingerprint() == two.fingerprint()
    assert one.columns["digest"].tolist() == two.columns["digest"].tolist()
    put(folder / "class0/000.png", encoded(drawn(99, 50, 60), "PNG"))
    put(folder / "class0/new.png", b"")
    three = survey(folder, seen)
    assert seen[-1] == (2, 2)
    assert three.columns["height"][0] == 60
    assert [skip.name for skip in three.skips] == ["class0/new.png"]
    assert three.fingerprint() != one.fingerprint()


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 not a zip", None])
def test_survey__damaged_cache_is_made_anew(tmp_path, damage):
    folder = write_pictures(tmp_path / "p", 3)
    survey(folder)
    cache = scan._cache_file(folder, LIMIT)
    cache.write_bytes(cache.read_bytes()[:200] if damage is None else damage)
    assert len(survey(folder).usable) == 3


def test_survey__bombs_and_slow_files(tmp_path):
    folder = write_pictures(tmp_path / "p", 8)
    put(folder / "b144.png", bomb_png(12_000, 12_000))
    started = time.monotonic()
    found = survey(folder)
    assert len(found.usable) == 8
    assert "144 MP over limit" in found.skips[0].reason
    assert time.monotonic() - started < 10


def test_survey__a_decoder_that_dies_costs_one_file(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "p", 6)
    ask = scan._Child.ask

    def deadly(self, path):
        if path.name == "003.png":
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return ask(self, path)

    monkeypatch.setattr(scan._Child, "ask", deadly)
    found = survey(folder, workers=1)
    assert [(skip.name, skip.reason) for skip in found.skips] == [
        ("class1/003.png", "crashes the decoder (exit code -9)")
    ]
    assert len(found.usable) == 5


def test_check_skips__limit_and_none(tmp_path):
    folder = write_pictures(tmp_path / "p", 4)
    for index in range(12):
        put(folder / f"bad{index}.png", b"no")
    found = survey(folder)
    with pytest.raises(DataError, match=r"12 of 16 pictures .* more than data\.max_skipped"):
        found.check_skips(0.05)
    found.check_skips(0.9)
    for path in folder.glob("class*/*.png"):
        path.unlink()
    with pytest.raises(DataError, match="None of the 12 pictures"):
        survey(folder).check_skips(1.0)


def test_duplicates__by_content(tmp_path):
    folder = write_pictures(tmp_path / "p", 4, classes=1)
    put(folder / "copy.png", (folder / "class0/001.png").read_bytes())
    found = survey(folder)
    (group,) = found.duplicates()
    assert {found.names[row] for row in group} == {"class0/001.png", "copy.png"}


def test_survey_array__all_alike(tmp_path):
    found = survey_array(ArraySource(tmp_path / "x.npy", np.zeros((3, 8, 9), dtype=np.uint16)))
    assert found.of_usable("width").tolist() == [9, 9, 9]
    assert found.of_usable("bits").tolist() == [16] * 3
    assert not found.duplicates()


def test_write_skips__a_json_line_each(tmp_path):
    found = survey(write_messy_folder(tmp_path / "m"))
    write_skips(tmp_path / "skipped.jsonl", found.skips)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {"zero.jpg", "html.jpg", "trunc.jpg", "bitflip.png"}


def test_survey__reasons_that_are_not_the_files_own_are_asked_for_again(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "p", 3)
    ask = scan._Child.ask

    def without_a_package(self, path):
        answer = ask(self, path)
        return {"reason": "run `pip install x`", "lasting": False} if path.stem == "001" else answer

    with monkeypatch.context() as patch:
        patch.setattr(scan._Child, "ask", without_a_package)
        assert len(survey(folder).skips) == 1
    assert len(survey(folder).skips) == 0


def test_survey_array__content_is_in_the_fingerprint(tmp_path):
    one, two = (np.full((90, 8, 9), value, dtype=np.uint8) for value in (1, 2))
    prints = {survey_array(ArraySource(tmp_path / "x.npy", a)).fingerprint() for a in (one, two)}
    assert len(prints) == 2
