import contextlib
import os
import resource
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import bomb_png, drawn, encoded, put, write_colour_modes
from maekit.data.decode import BACKGROUND, decode, inspect
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


@pytest.mark.slow
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
