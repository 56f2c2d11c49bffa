import shutil

import pytest

from drawn import drawn, encoded, put
from maekit.cli import main


@pytest.mark.slow
def test_fit__a_resumed_run_wants_its_pictures(finished, labelled, tmp_path, capsys):
    pictures = shutil.copytree(labelled, tmp_path / "own")
    given = ["--init", str(finished), "--out", str(tmp_path / "f"), "--baseline", "false"]
    assert main(["finetune", str(pictures), "--config", "mae_finetune_smoke", *given]) == 0
    put(pictures / "train" / "dark" / "more.png", encoded(drawn(77), "PNG"))
    assert main(["finetune", "--resume", str(tmp_path / "f")]) == 2
    assert "not those the run began with" in capsys.readouterr().err
