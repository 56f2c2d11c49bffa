import json

import pytest

import maekit
from drawn import drawn, encoded, put
from maekit.cli import main


def test_probe__beside_the_untrained_encoder(finished, labelled, tmp_path, capsys, caplog):
    result = maekit.probe(
        checkpoint=finished, dir=labelled, out=tmp_path / "probe.json", methods=["knn", "linear"]
    )
    assert result.classes == ["dark", "light"]
    sizes = result.num_train, result.num_val, result.num_test
    assert (*sizes, result.chance) == (16, 4, 10, 0.5)
    assert result.top1("linear", "mean") == 1.0
    assert 0.0 <= result.top1("knn", "cls", "untrained") <= 1.0
    written = json.loads((tmp_path / "probe.json").read_text())
    assert written["scores"][0]["test"]["top1"] == result.scores[0].test.top1
    assert "untrained" in capsys.readouterr().out
    assert "4 of the training pictures are held out to choose by" in caplog.text
    with pytest.raises(KeyError):
        result.top1("attentive", "patches")


@pytest.mark.slow
def test_probe__every_method(finished, labelled):
    result = maekit.probe(checkpoint=finished, dir=labelled, untrained=False)
    found = {(score.method, score.features): score for score in result.scores}
    assert set(found) == {
        (method, features) for method in ("knn", "linear", "sgd") for features in ("mean", "cls")
    } | {("attentive", "patches")}
    for key in (("linear", "mean"), ("sgd", "mean"), ("attentive", "patches")):
        assert found[key].test.top1 == 1.0
    assert found["sgd", "mean"].chosen.startswith("rate ")
    assert found["attentive", "patches"].chosen.startswith("block ")


@pytest.mark.slow
def test_probe__refuses_unknown_classes_and_flat_folders(finished, labelled, tmp_path, capsys):
    picture = encoded(drawn(0), "PNG")
    extra = put(labelled / "test" / "odd" / "x.png", picture)
    assert main(["probe", str(finished), str(labelled)]) == 2
    assert "lacks: odd" in capsys.readouterr().err
    extra.unlink()
    put(labelled / "train" / "loose.png", picture)
    assert main(["probe", str(finished), str(labelled)]) == 2
    assert "loose.png lies in none" in capsys.readouterr().err
