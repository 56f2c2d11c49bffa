import math

import numpy as np
import pytest
import torch
from PIL import Image

from maekit.errors import TrainingError
from maekit.report.figures import (
    draw_confusion,
    draw_curve,
    draw_loss,
    draw_panels,
    draw_sheet,
    to_display,
)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_draw_panels__any_channels(tmp_path, channels):
    target = torch.rand(2, channels, 8, 12)
    masked = target.clone()
    masked[:, :, :4] = math.nan
    draw_panels(
        tmp_path / "deep" / "p.png", {"Target": target, "Masked": masked}, "title", "note $x$"
    )
    with Image.open(tmp_path / "deep" / "p.png") as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn


def test_to_display__hidden_is_grey_and_rasters_are_stretched():
    hidden = torch.full((3, 2, 2), math.nan)
    assert (to_display(hidden, like=torch.rand(3, 2, 2)) == 0.5).all()
    raster = torch.arange(16.0).reshape(1, 4, 4) * 500
    shown = to_display(raster, like=raster)
    assert (shown.min(), shown.max()) == (0.0, 1.0)
    assert (
        to_display(torch.full((3, 1, 1), 0.25), like=torch.linspace(0, 1, 3).view(3, 1, 1)).max()
        == 0.25
    )


def test_draw_loss__with_and_without_records(tmp_path):
    baselines = {"one": 1.0, "two": 0.5}
    draw_loss(tmp_path / "a.png", [], baselines)
    records = [
        {"epoch": 1, "loss": 0.7},
        {"epoch": 2, "loss": 0.6},
        {"epoch": 2, "val_loss": 0.65},
        {"epoch": 3},
    ]
    draw_loss(tmp_path / "b.png", records, baselines)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_draw_sheet__any_name(tmp_path):
    names = [f"$a_{n}$ {n}.png" for n in range(8)] + ["z\udcff.png", "two\nlines", "犬.png"]
    draw_sheet(tmp_path / "s.png", {name: torch.rand(3, 8, 8) for name in names}, "t")
    assert (tmp_path / "s.png").exists()


def test_draw__a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="Cannot write"):
        draw_loss(tmp_path / "file" / "x.png", [], {"one": 1.0, "two": 0.5})


def test_draw_confusion_and_curve__write_pictures(tmp_path):
    counts = torch.tensor([[3, 1], [0, 0]])
    draw_confusion(tmp_path / "c.png", counts, ["a$b$", "c"], "title")
    draw_curve(tmp_path / "e.png", [{"epoch": 1, "x": 0.5}, {"epoch": 2}], {"x": "name"})
    for name in ("c.png", "e.png"):
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("L")).std() > 5
