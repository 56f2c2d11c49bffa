import pytest

from maekit.errors import ConfigError
from maekit.tables import check_table, write_table

COLUMNS = {"path": ["a, b.png", "c.png"], "share": [0.25, None], "number": [1, 2]}


def test_write_table__csv(tmp_path):
    write_table(tmp_path / "t.csv", COLUMNS)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines == ["path,share,number", '"a, b.png",0.250000,1', "c.png,,2"]


def test_write_table__parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "t.parquet", COLUMNS)
    assert parquet.read_table(tmp_path / "t.parquet").to_pydict() == COLUMNS


def test_check_table__names_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"must end in .csv or .parquet"):
        check_table(tmp_path / "t.xls")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs pyarrow"):
        check_table(tmp_path / "t.parquet")
