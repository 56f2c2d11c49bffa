import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import maekit
from drawn import put
from maekit import checkpoint
from maekit.cli import main
from maekit.errors import DataError


def test_reconstruct__pictures_and_folders(finished, pictures, tmp_path):
    out = tmp_path / "figures"
    assert (
        main(
            ["reconstruct", str(finished), str(pictures), "--out", str(out), "--mask_ratio", "0.5"]
        )
        == 0
    )
    assert len(list(out.glob("*.png"))) == 3  # 24 pictures, eight a figure
    result = maekit.reconstruct(checkpoint=finished, images=[pictures / "class0/000.png"], out=out)
    assert result.loss > 0
    assert len(list(out.glob("*.png"))) == 4  # the earlier ones stay
    with Image.open(result.figures[0]) as figure:
        assert figure.width > 400


def test_reconstruct__a_given_mask(finished, pictures, tmp_path):
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    picture = str(pictures / "class0/000.png")
    arguments = [
        "reconstruct",
        str(finished),
        picture,
        "--out",
        str(tmp_path / "o"),
        "--mask",
        str(tmp_path / "mask.png"),
    ]
    assert main(arguments) == 0
    deep = np.where(mask > 0, 65_535, 300).astype(np.uint16)  # nearly black shows
    Image.fromarray(deep).save(tmp_path / "mask.png")
    assert main(arguments) == 0
    Image.fromarray(mask * 0).save(tmp_path / "mask.png")
    assert main(arguments) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--mask_ratio", "0.99"], "at least one visible and one hidden"),
        (["--mask", "/none.png"], "file not found"),
        (["--mask_ratio", "0"], "mask_ratio must lie between 0 and 1"),
    ],
)
def test_reconstruct__refuses(finished, pictures, tmp_path, capsys, change, message):
    assert (
        main(["reconstruct", str(finished), str(pictures), "--out", str(tmp_path / "o"), *change])
        == 2
    )
    assert message in capsys.readouterr().err


def test_reconstruct__refuses_without_decoder_and_broken_pictures(finished, tmp_path, capsys):
    broken = put(tmp_path / "x.jpg", b"no picture")
    assert main(["reconstruct", str(finished), str(broken)]) == 2
    assert "x.jpg: not a picture" in capsys.readouterr().err
    state = checkpoint.load(finished / "checkpoints" / "last.pt")
    torch.save(state | {"decoder": {}}, tmp_path / "encoder.pt")
    assert main(["reconstruct", str(tmp_path / "encoder.pt"), str(broken)]) == 2
    assert "holds no decoder" in capsys.readouterr().err


def test_reconstruct__never_writes_among_the_pictures(finished, pictures, capsys):
    folder = pictures / "class0"
    for place in (pictures, folder / "000.png"):
        assert main(["reconstruct", str(finished), str(place), "--out", str(folder)]) == 2
        assert "nothing is ever written" in capsys.readouterr().err


@pytest.mark.slow
def test_reconstruct__takes_some_of_a_large_folder(finished, pictures, tmp_path):
    result = maekit.reconstruct(checkpoint=finished, images=[pictures], most=9, out=tmp_path / "o")
    assert len(result.figures) == 2  # eight rows and one


def test_reconstruct__a_broken_picture_of_a_folder_is_left_out_and_named(
    finished, pictures, tmp_path
):
    folder = shutil.copytree(pictures / "class0", tmp_path / "some")
    put(folder / "x.jpg", b"no picture")
    result = maekit.reconstruct(checkpoint=finished, images=[folder], out=tmp_path / "o")
    assert len(result.figures) == 2  # of 12 pictures
    assert [Path(name).name for name, _ in result.skipped] == ["x.jpg"]
    put(tmp_path / "bad" / "x.jpg", b"no picture")
    with pytest.raises(DataError, match="None of the 1 pictures"):
        maekit.reconstruct(checkpoint=finished, images=[tmp_path / "bad"], out=tmp_path / "o")
