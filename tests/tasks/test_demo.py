import pytest

from maekit.cli import main
from maekit.tasks.demo import PHOTOGRAPHS, DemoConfig, cut_tiles, run

pytest.importorskip("skimage")
pytest.importorskip("sklearn")


@pytest.mark.slow
def test_cut_tiles__classes_and_a_split_in_space(tmp_path):
    cut_tiles(tmp_path)
    for name in PHOTOGRAPHS:
        train, test = (list((tmp_path / split / name).iterdir()) for split in ("train", "test"))
        assert 20 < len(train) <= 260
        assert 2 < len(test) <= 40


@pytest.mark.slow
def test_demo__runs_through(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("maekit.tasks.demo._MOST_TRAIN", 24)
    result = run(DemoConfig(epochs=1, out=tmp_path / "demo"))
    assert result.probe.num_test > 100
    assert (tmp_path / "demo" / "run" / "loss.png").exists()
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "exists already" in capsys.readouterr().err
