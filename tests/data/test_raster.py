import numpy as np
import pytest
import tifffile

from conftest import shared_data
from maekit.data.decode import decode, inspect
from maekit.errors import DecodeError

LIMIT = 100_000_000


@pytest.mark.parametrize("shape", [(20, 30, 4), (20, 30, 13), (20, 30)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_decode__tiff_of_many_bands(tmp_path, shape, kind, planar):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(kind)
    many = len(shape) == 3
    if not many and planar == "separate":
        pytest.skip("one band has no planes")
    stored = np.moveaxis(values, -1, 0) if many and planar == "separate" else values
    path = tmp_path / "bands.tif"
    tifffile.imwrite(
        path,
        stored,
        photometric="minisblack",
        compression="zlib",
        planarconfig=planar if many else None,
    )
    pixels = decode(path, LIMIT)
    assert pixels.shape == (*shape[:2], shape[2] if many else 1)
    assert np.array_equal(pixels.squeeze(), values)
    assert pixels.dtype == (kind if kind in (np.uint8, np.uint16) else np.float32)


def test_decode__16_bit_colour_tiff_keeps_its_depth(tmp_path):
    values = np.random.default_rng(0).integers(0, 65535, (8, 9, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb")
    assert np.array_equal(decode(tmp_path / "deep.tif", LIMIT), values)


def test_decode__holes_become_the_mean_of_their_band(tmp_path):
    values = np.array([[[1.0, 5.0], [np.nan, 7.0]]], dtype=np.float32)
    tifffile.imwrite(
        tmp_path / "holes.tif", values, photometric="minisblack", planarconfig="contig"
    )
    assert decode(tmp_path / "holes.tif", LIMIT).tolist() == [[[1.0, 5.0], [1.0, 7.0]]]
    values[0, 1, 0] = np.finfo(np.float32).min  # missing, undeclared
    tifffile.imwrite(
        tmp_path / "least.tif", values, photometric="minisblack", planarconfig="contig"
    )
    assert decode(tmp_path / "least.tif", LIMIT).tolist() == [[[1.0, 5.0], [1.0, 7.0]]]
    tifffile.imwrite(tmp_path / "void.tif", np.full((4, 4), np.nan, dtype=np.float32))
    with pytest.raises(DecodeError, match="no finite value"):
        decode(tmp_path / "void.tif", LIMIT)


def test_inspect__pages_of_a_raster_are_frames_and_overviews_are_not(tmp_path):
    stack = np.zeros((5, 16, 16), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    assert inspect(tmp_path / "stack.tif", LIMIT).several_frames
    with tifffile.TiffWriter(tmp_path / "overview.tif") as file:
        file.write(stack[0])
        file.write(stack[0, ::2, ::2], subfiletype=1)
    assert not inspect(tmp_path / "overview.tif", LIMIT).several_frames
    eight = stack[0].astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "overview8.tif") as file:
        file.write(eight)
        file.write(eight[::2, ::2], subfiletype=1)
    assert not inspect(tmp_path / "overview8.tif", LIMIT).several_frames


@pytest.mark.shared_data
def test_decode__dicom_palette():
    pytest.importorskip("pydicom")
    assert decode(shared_data("medical") / "dicom" / "OBXXXX1A_rle.dcm", LIMIT).shape[2] == 3


@pytest.mark.shared_data
def test_decode__dicom():
    pytest.importorskip("pydicom")
    folder = shared_data("medical") / "dicom"
    pixels = decode(folder / "MR2_UNCR.dcm", LIMIT)
    assert pixels.dtype == np.float32
    assert 0.0 <= pixels.min() < pixels.max() <= 1.0


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_decode__declared_missing_values_of_one_8_bit_band(tmp_path, compression):
    values = np.array([[0, 100], [200, 0]], dtype=np.uint8)
    tags = [(42113, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "one.tif", values, extratags=tags, compression=compression)
    pixels = decode(tmp_path / "one.tif", LIMIT)
    assert pixels.ravel() * 255 == pytest.approx([150, 100, 200, 150])


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_decode__16_bit_alpha_is_blended(tmp_path, kind):
    values = np.zeros((4, 4, 4), dtype=np.uint16)
    values[:2, :, 3] = 65535  # black above, nothing below
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[kind])
    pixels = decode(tmp_path / "a.tif", LIMIT)
    assert pixels.shape == (4, 4, 3)
    assert pixels.dtype == np.uint16
    assert (pixels[:2] == 0).all()
    assert (pixels[2:] == 65535).all()
