import pytest

from drawn import drawn, encoded, put, write_pictures
from maekit.data import scan_pool
from maekit.data.scan_cache import cache_file
from scanned import LIMIT, survey


def test_survey__second_time_reads_the_cache_and_notices_changes(tmp_path):
    folder = write_pictures(tmp_path / "p", 6)
    first, seen = [], []
    one = survey(folder, first)
    assert first[-1] == (6, 6)
    two = survey(folder, seen)
    assert not seen
    assert one.fingerprint() == two.fingerprint()
    assert one.columns["digest"].tolist() == two.columns["digest"].tolist()
    put(folder / "class0/000.png", encoded(drawn(99, 50, 60), "PNG"))
    put(folder / "class0/new.png", b"")
    three = survey(folder, seen)
    assert seen[-1] == (2, 2)
    assert three.columns["height"][0] == 60
    assert [skip.name for skip in three.skips] == ["class0/new.png"]
    assert three.fingerprint() != one.fingerprint()


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 not a zip", None])
def test_survey__damaged_cache_is_made_anew(tmp_path, damage):
    folder = write_pictures(tmp_path / "p", 3)
    survey(folder)
    cache = cache_file(folder, LIMIT)
    cache.write_bytes(cache.read_bytes()[:200] if damage is None else damage)
    assert len(survey(folder).usable) == 3


def test_survey__reasons_that_are_not_the_files_own_are_asked_for_again(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "p", 3)
    ask = scan_pool._Child.ask

    def without_a_package(self, path):
        answer = ask(self, path)
        return {"reason": "run `pip install x`", "lasting": False} if path.stem == "001" else answer

    with monkeypatch.context() as patch:
        patch.setattr(scan_pool._Child, "ask", without_a_package)
        assert len(survey(folder).skips) == 1
    assert len(survey(folder).skips) == 0
