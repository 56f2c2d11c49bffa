"""Real files that broke other readers. No test here may depend on one picture's content."""

import json
import time

import pytest

import maekit
from conftest import shared_data
from maekit.cli import main
from maekit.data.listing import list_pictures
from maekit.data.scan_pool import _Child
from maekit.log import read_json_lines

pytestmark = pytest.mark.shared_data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasty", "geo", "medical"])
def test_scan__every_file_is_used_or_named_within_two_seconds(name):
    folder = shared_data(name)
    listing = list_pictures(folder)
    child = _Child(100_000_000)
    child.ask(folder / "warm-up.png")
    pid, used, slowest = child.process.pid, 0, 0.0
    for path in listing.paths:
        started = time.perf_counter()
        answer = child.ask(folder / path)
        slowest = max(slowest, time.perf_counter() - started)
        used += "reason" not in answer
        assert answer.get("reason", "used").strip()
        assert child.process.pid == pid, f"{path} ended the decoder"
    child.close()
    assert slowest < 2.0
    assert used > 0


@pytest.mark.slow
def test_pretrain__on_what_is_nasty(tmp_path, capsys):
    folder = shared_data("nasty")
    arguments = ["pretrain", str(folder), "--config", "mae_pretrain_smoke", "--epochs", "1"]
    arguments += ["--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "more than data.max_skipped" in capsys.readouterr().err
    assert main([*arguments, "--max_skipped", "1"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    listed = len(list_pictures(folder))
    assert result["num_images"] + 4 + result["num_skipped"] == listed
    skipped = read_json_lines(tmp_path / "run" / "skipped.jsonl")
    assert len(skipped) == result["num_skipped"]
    assert all(line["reason"] for line in skipped)


@pytest.mark.slow
def test_pretrain__on_an_array_of_grey_pictures(tmp_path):
    folder = shared_data("medical")
    result = maekit.pretrain(
        dir=folder / "pneumoniamnist.npz", array="val_images", out=tmp_path / "run",
        model={"size": "tiny", "depth": 1, "decoder_depth": 1}, epochs=1, num_workers=0,
    )  # fmt: skip
    encoder = maekit.load_encoder(result.out)
    assert encoder.config.in_channels == 1
    assert encoder.config.image_size == (28, 28)
