import pytest

from drawn import put
from maekit.cli import main


@pytest.mark.slow
def test_predict__a_table_with_reasons_in_the_order_given(finished, labelled, tmp_path, capsys):
    given = ["--init", str(finished), "--out", str(tmp_path / "f"), "--baseline", "false"]
    assert main(["finetune", str(labelled), "--config", "mae_finetune_smoke", *given]) == 0
    new = put(tmp_path / "new" / "broken.png", b"no picture").parent
    (new / "list.txt").write_text("broken.png\n")
    places = [str(labelled / "test" / "light"), str(new / "broken.png")]
    table = tmp_path / "p.csv"
    assert main(["predict", str(tmp_path / "f"), *places, "--out", str(table)]) == 0
    rows = table.read_text().splitlines()
    assert rows[0] == "path,class,probability,reason"
    assert [row.split(",")[0].rpartition("/")[2] for row in rows[1:6]] == [
        f"{number}.png" for number in range(5)
    ]
    assert rows[6].startswith(f"{new / 'broken.png'},,,")
    assert len(rows[6].split(",", 3)[3]) > 5
    assert main(["predict", str(tmp_path / "f"), *places, "--out", str(new / "p.csv")]) == 0
    inside = str(labelled / "test" / "light" / "p.csv")
    assert main(["predict", str(tmp_path / "f"), *places, "--out", inside]) == 2
    assert "nothing is ever written" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "f"), *places, "--out", str(tmp_path / "p.xls")]) == 2
    assert "must end in .csv or .parquet" in capsys.readouterr().err
