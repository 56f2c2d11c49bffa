import pytest

import maekit
from maekit.cli import main


@pytest.mark.slow
def test_knn__chooses_k_or_takes_it(finished, labelled, tmp_path, capsys):
    result = maekit.knn(checkpoint=finished, dir=labelled, untrained=False)
    assert {score.method for score in result.scores} == {"knn"}
    assert result.scores[0].chosen in {f"k {k}" for k in (1, 3, 5, 10)}
    assert result.top1("knn", "mean") >= 0.5
    assert main(["knn", str(finished), str(labelled), "--k", "3"]) == 0
    assert "k 3" in capsys.readouterr().out
    assert main(["knn", str(finished), str(labelled), "--k", "0"]) == 2
    assert "k must be at least 1" in capsys.readouterr().err
