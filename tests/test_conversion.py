from pathlib import Path

import pytest

from maekit.conversion import convert


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("1e-3", float, 1e-3), (3, float, 3.0), ("64x96", tuple[int, int], (64, 96)), ("1,2", tuple[float, ...], (1.0, 2.0)),
        (7, tuple[int, int], (7, 7)), ([1], tuple[float, ...], (1.0,)), (None, int | None, None), ("a", Path, Path("a")),
    ],
)  # fmt: skip
def test_convert__accepts(value, kind, expected):
    assert convert(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, int),
        ("3", int),
        (True, int),
        (True, float),
        (1, bool),
        (1, str),
        ([1, 2, 3], tuple[int, int]),
        (None, int),
    ],
)
def test_convert__refuses(value, kind):
    with pytest.raises(ValueError, match="must"):
        convert(value, kind)
