import pytest

import maekit
from maekit.errors import DataError
from maekit.tasks.predict import _paths


def test_paths__keep_the_order_given(pictures):
    one, two = pictures / "class1" / "001.png", pictures / "class0"
    paths = _paths((one, two))
    assert paths[0] == one
    assert [path.name for path in paths[1:3]] == ["000.png", "002.png"]
    with pytest.raises(DataError, match="There is no folder or file"):
        _paths((pictures / "none.txt",))
    assert "predict" in maekit.__all__
