import contextlib
import os
import resource
import time

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import shared_data
from drawn import bomb_png, drawn, encoded, put, write_colour_modes
from maekit.data.decode import BACKGROUND, decode, inspect, match_channels
from maekit.errors import DecodeError

LIMIT = 100_000_000


@pytest.fixture(scope="module")
def modes(tmp_path_factory):
    return write_colour_modes(tmp_path_factory.mktemp("modes") / "zoo")


def test_decode__applies_orientation(modes):
    pixels = decode(modes / "exif6.jpg", LIMIT)
    assert pixels.shape == (96, 64, 3)
    upright = np.asarray(drawn(1), dtype=float)
    assert np.abs(np.rot90(upright, -1) - pixels).mean() < 9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode__every_orientation_like_pillow(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path / "x.png", encoded(drawn(2), "PNG", exif=exif))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(decode(path, LIMIT), expected)


def test_decode__keeps_16_bits(modes):
    pixels = decode(modes / "gray16.png", LIMIT)
    assert pixels.dtype == np.uint16
    assert pixels.mean() / 65535 * 255 == pytest.approx(127, abs=3)
    assert len(np.unique(pixels)) > 200


@pytest.mark.parametrize("name", ["la.png", "clear.png"])
def test_decode__what_is_transparent_is_background_not_the_hidden_colour(modes, name):
    assert (decode(modes / name, LIMIT) == BACKGROUND).all()


def test_decode__palette_with_transparency(modes):
    pixels = decode(modes / "pal_trns.png", LIMIT)
    assert pixels.shape == (64, 96, 3)
    assert 0 < (pixels == BACKGROUND).all(axis=2).mean() < 1


def test_decode__cmyk_becomes_the_same_colours(modes):
    assert np.abs(decode(modes / "cmyk.jpg", LIMIT) - np.asarray(drawn(1), dtype=float)).mean() < 6


def test_decode__one_bit_and_grey(modes):
    assert set(np.unique(decode(modes / "bit1.png", LIMIT))) == {0, 255}
    assert decode(modes / "grey.webp", LIMIT).shape == (64, 96, 3)  # WebP has no grey


@pytest.mark.parametrize("name", ["anim.gif", "anim.webp", "anim.png", "multi.tif", "two.mpo.jpg"])
def test_decode__first_frame_alone_and_said(modes, name):
    pixels = decode(modes / name, LIMIT)
    assert np.abs(pixels.mean((0, 1)) - [255, 0, 0]).max() < 4
    assert inspect(modes / name, LIMIT).several_frames


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


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "BMP", "GIF", "WEBP", "PPM", "TIFF"])
def test_decode__formats(tmp_path, kind):
    path = put(tmp_path / "picture.any", encoded(drawn(3), kind))  # by content, not by name
    assert decode(path, LIMIT).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not a picture"),
        (encoded(drawn(0), "JPEG")[:900], "truncated"),
        (encoded(drawn(0), "PNG")[:-60], "."),
        (b"II*\0" + b"\xff" * 60, "."),
    ],
)
def test_decode__damage_is_named(tmp_path, data, message):
    path = put(tmp_path / "x.jpg", data)
    for function in (decode, inspect):
        with pytest.raises(DecodeError, match=message):
            function(path, LIMIT)


def test_inspect__finds_what_decoding_lets_pass(tmp_path):
    png = bytearray(encoded(drawn(31), "PNG"))
    png[len(png) // 2] ^= 0xFF
    with pytest.raises(DecodeError):
        inspect(put(tmp_path / "x.png", bytes(png)), LIMIT)


def test_decode__only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DecodeError, match="not a regular file"):
        decode(tmp_path / "pipe.jpg", LIMIT)
    with pytest.raises(DecodeError, match="file not found"):
        decode(tmp_path / "none.jpg", LIMIT)


def test_decode__pixel_bomb_costs_neither_time_nor_memory(tmp_path):
    path = put(tmp_path / "b.png", bomb_png(12_000, 12_000))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for function in (decode, inspect):
        with pytest.raises(DecodeError, match=r"144 MP over limit .* data\.max_pixels is 100 MP"):
            function(path, LIMIT)
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


_GOOD = [encoded(drawn(5, 24, 16), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")]


@given(
    st.sampled_from(_GOOD),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.floats(0.3, 1),
)
@settings(max_examples=300, deadline=2000)
def test_decode__mutated_files_give_pixels_or_a_reason(tmp_path_factory, data, changes, kept):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    path = put(
        tmp_path_factory.getbasetemp() / "fuzz.bin", bytes(damaged[: int(len(damaged) * kept)])
    )
    for function in (decode, inspect):
        with contextlib.suppress(DecodeError):  # anything else escapes and fails
            assert function(path, 1_000_000) is not None


def test_match_channels__grey_and_colour():
    grey = np.full((2, 2, 1), 7, dtype=np.uint8)
    assert match_channels(grey, 3).shape == (2, 2, 3)
    assert (match_channels(match_channels(grey, 3), 1) == 7).all()
    with pytest.raises(DecodeError, match="has 13 channels where 3 are expected"):
        match_channels(np.zeros((2, 2, 13), dtype=np.uint8), 3)


def test_inspect__pages_of_a_raster_are_frames_and_overviews_are_not(tmp_path):
    stack = np.zeros((5, 16, 16), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    assert inspect(tmp_path / "stack.tif", LIMIT).several_frames
    with tifffile.TiffWriter(tmp_path / "overview.tif") as file:
        file.write(stack[0])
        file.write(stack[0, ::2, ::2], subfiletype=1)
    assert not inspect(tmp_path / "overview.tif", LIMIT).several_frames


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
