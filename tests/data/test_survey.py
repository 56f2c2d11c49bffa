import json

import pytest

from drawn import put, write_messy_folder, write_pictures
from maekit.data.survey import write_skips
from maekit.errors import DataError
from scanned import survey


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


def test_write_skips__a_json_line_each(tmp_path):
    found = survey(write_messy_folder(tmp_path / "m"))
    write_skips(tmp_path / "skipped.jsonl", found.skips)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {"zero.jpg", "html.jpg", "trunc.jpg", "bitflip.png"}
