import pytest
from PIL import Image

import maekit
from drawn import drawn, encoded, put
from maekit.cli import main


@pytest.fixture
def labelled(tmp_path):
    """Two classes that colour alone tells apart."""
    for split, number in (("train", 10), ("test", 5)):
        for name, colour in (("dark", 40), ("light", 220)):
            for index in range(number):
                image = Image.blend(
                    drawn(index, 40, 32), Image.new("RGB", (40, 32), (colour,) * 3), 0.8
                )
                put(tmp_path / "labelled" / split / name / f"{index}.png", encoded(image, "PNG"))
    return tmp_path / "labelled"


def test_probe__beside_the_untrained_encoder(finished, labelled, tmp_path, capsys):
    result = maekit.probe(checkpoint=finished, dir=labelled, out=tmp_path / "probe.json")
    assert result.classes == ["dark", "light"]
    assert (result.num_train, result.num_test, result.chance) == (20, 10, 0.5)
    assert result.pretrained.linear_mean == 1.0
    assert 0.0 <= result.untrained.knn_mean <= 1.0
    assert (tmp_path / "probe.json").exists()
    assert "the same, untrained" in capsys.readouterr().out


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
