import numpy as np

from drawn import write_messy_folder
from maekit.data.listing import list_pictures
from maekit.data.scan import file_source, survey_array
from maekit.data.sources import ArraySource
from scanned import LIMIT, survey


def test_survey__messy_folder(tmp_path):
    found = survey(write_messy_folder(tmp_path / "m"))
    assert len(found.usable) == 12
    reasons = {skip.name: skip.reason for skip in found.skips}
    assert reasons.keys() == {"zero.jpg", "html.jpg", "trunc.jpg", "bitflip.png"}
    assert reasons["zero.jpg"] == "empty file"
    source = file_source(list_pictures(tmp_path / "m"), found, LIMIT)
    assert len(source) == 12
    assert all(source.read(index).shape == (64, 96, 3) for index in range(12))


def test_survey_array__all_alike(tmp_path):
    found = survey_array(ArraySource(tmp_path / "x.npy", np.zeros((3, 8, 9), dtype=np.uint16)))
    assert found.of_usable("width").tolist() == [9, 9, 9]
    assert found.of_usable("bits").tolist() == [16] * 3
    assert not found.duplicates()


def test_survey_array__content_is_in_the_fingerprint(tmp_path):
    one, two = (np.full((90, 8, 9), value, dtype=np.uint8) for value in (1, 2))
    prints = {survey_array(ArraySource(tmp_path / "x.npy", a)).fingerprint() for a in (one, two)}
    assert len(prints) == 2
