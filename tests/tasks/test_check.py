import json

import maekit
from drawn import drawn, encoded, put, write_messy_folder, write_pictures
from maekit.cli import main
from maekit.log import read_json_lines


def test_check__what_it_writes(tmp_path, capsys):
    folder = write_messy_folder(tmp_path / "m")
    assert main(["check", str(folder), "--out", str(tmp_path / "c")]) == 0
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert (summary["num_listed"], summary["num_usable"], summary["num_skipped"]) == (16, 12, 4)
    assert summary["width"] == {"min": 96.0, "median": 96.0, "max": 96.0}
    assert summary["bits"] == {"8": 12}
    assert len(read_json_lines(tmp_path / "c" / "skipped.jsonl")) == 4
    assert (tmp_path / "c" / "contact_sheet.png").stat().st_size > 1000
    assert "1 × empty file" in capsys.readouterr().err


def test_check__duplicates_and_leakage(tmp_path):
    root = tmp_path / "data"
    write_pictures(root / "train", 6)
    write_pictures(root / "test", 2, width=50)
    picture = (root / "train/class0/000.png").read_bytes()
    put(root / "test/class0/leaked.png", picture)
    put(root / "train/class1/copy.png", (root / "train/class1/001.png").read_bytes())
    result = maekit.check(dir=root, out=tmp_path / "c")
    assert len(result.duplicates) == 2
    assert result.leakage == [["test/class0/leaked.png", "train/class0/000.png"]]
    assert result.decode_images_per_s > 1


def test_check__refuses_to_write_among_the_pictures(tmp_path, capsys):
    folder = write_pictures(tmp_path / "p", 3)
    put(folder / "x.png", encoded(drawn(1), "PNG"))
    assert main(["check", str(folder), "--out", str(folder / "c")]) == 2
    assert "nothing is ever written" in capsys.readouterr().err


def test_check__refuses_a_run_folder(finished, tmp_path, capsys):
    folder = write_pictures(tmp_path / "p", 3)
    assert main(["check", str(folder), "--out", str(finished)]) == 2
    assert "is the folder of a run" in capsys.readouterr().err
