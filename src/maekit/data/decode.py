"""One picture file to an array: orientation applied, depth kept, damage named.

Uses Pillow, and tifffile for what Pillow reduces or refuses (many bands, 16-bit colour, floats).
torchvision's decoder is not used: it crashes the process on damaged PNG files.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL import __version__ as pillow_version
from PIL.TiffImagePlugin import TiffImageFile

from maekit.data.pixels import Pixels, check_size, depth, orient, with_channels
from maekit.data.raster import (
    NODATA_TAG,
    ORIENTATION_TAG,
    TIFF_MAGIC,
    decode_dicom,
    decode_raster,
)
from maekit.errors import DecodeError, MaekitError, explain

# Pillow looks at the content and not at the name, but only for these formats. MPO comes with JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
_OF_PHOTOGRAPHS = ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .gif .bmp .dib"
_OF_OTHERS = ".tif .tiff .jp2 .j2k .jpx .ppm .pgm .pnm .dcm .dicom"
SUFFIXES = frozenset(f"{_OF_PHOTOGRAPHS} {_OF_OTHERS}".split())
# What shows through where a picture is transparent.
BACKGROUND = 255
_OVERVIEW_TAG = 254


class PictureFacts(NamedTuple):
    """What a scan learns about one usable picture."""

    height: int
    """In pixels, as oriented."""
    width: int
    channels: int
    """1 for grey, 3 for colour, else the number of bands."""
    bits: int
    """Bits of one value: 8, 16 or 32."""
    mode: str
    """The file's colour mode, in Pillow's terms, or `bands` for a raster beyond them."""
    several_frames: bool
    """Whether the file holds more frames than the first, which alone is used."""


def decode(path: Path, max_pixels: int) -> Pixels:
    """Decodes the first frame of a picture.

    EXIF orientation is applied; alpha is blended over white; palettes, CMYK and the like become
    RGB; 16-bit grey and all multi-band rasters keep their depth; values that a raster declares
    as missing, and NaN, become the mean of the rest of their band.

    Args:
        path: A regular file.
        max_pixels: Refuse pictures with more pixels (height times width) than this.

    Returns:
        Shape (height, width, channels); uint8, uint16 or float32.

    Raises:
        DecodeError: If the file is no picture, is damaged, or is over the limit.
    """
    return _guarded(path, max_pixels, check=False)[0]


def inspect(path: Path, max_pixels: int) -> PictureFacts:
    """Decodes a picture with every check there is, and says what it holds.

    Raises:
        DecodeError: As `decode`, and for files whose checksums do not hold.
    """
    pixels, mode, several_frames = _guarded(path, max_pixels, check=True)
    height, width, channels = pixels.shape
    return PictureFacts(height, width, channels, pixels.dtype.itemsize * 8, mode, several_frames)


def _guarded(path: Path, max_pixels: int, check: bool) -> tuple[Pixels, str, bool]:
    """Decodes with every error of the foreign decoders turned into a `DecodeError`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        if status.st_size == 0:
            raise DecodeError("empty file")
        with _limits_are_ours(), path.open("rb") as file:
            magic = file.read(132)
        with _limits_are_ours():
            if magic[128:] == b"DICM":
                return decode_dicom(path, max_pixels)
            if magic[:4] in TIFF_MAGIC and (raster := decode_raster(path, max_pixels)) is not None:
                return raster
            return _decode_pillow(path, max_pixels, check)
    except MaekitError:
        raise
    except Image.DecompressionBombError as error:
        raise DecodeError(f"over the limit of {max_pixels / 1e6:.0f} MP") from error
    except FileNotFoundError as error:
        raise DecodeError("file not found", lasting=False) from error
    except PermissionError as error:
        raise DecodeError("no permission to read it", lasting=False) from error
    except MemoryError as error:
        raise DecodeError("too large for the memory", lasting=False) from error
    # The one place where anything is caught: on damaged files decoders raise OSError, ValueError,
    # SyntaxError, TypeError, struct.error, zlib.error and more, and new ones with each release.
    except Exception as error:
        raise DecodeError(_short(error)) from error


def _short(error: Exception) -> str:
    text = " ".join(explain(error).split())
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in any format that maekit reads"
    return text if len(text) <= 400 else f"{text[:397]}..."


@contextlib.contextmanager
def _limits_are_ours() -> Iterator[None]:
    """Sets Pillow's own pixel limit aside: ours is checked before anything is decoded."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd EXIF blocks and the like; what matters is raised.
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _decode_pillow(path: Path, max_pixels: int, check: bool) -> tuple[Pixels, str, bool]:
    if check:
        # verify() and load() catch different damage: a PNG with a wrong checksum loads, and a
        # truncated JPEG verifies. verify() leaves the image unusable, hence two openings.
        with Image.open(path, formats=_FORMATS) as image:
            check_size(image.height, image.width, max_pixels)
            image.verify()
    with Image.open(path, formats=_FORMATS) as image:
        check_size(image.height, image.width, max_pixels)
        mode, several = image.mode, _has_several_frames(image)
        return from_pillow(image), mode, several


def from_pillow(image: Image.Image) -> Pixels:
    """Converts an image that Pillow has opened, by the rules of `decode`."""
    image.load()
    pixels = _pillow_pixels(image)
    # What a TIFF declares as missing is a number of its own values, which a palette has not.
    nodata = image.tag_v2.get(NODATA_TAG) if isinstance(image, TiffImageFile) else None
    if pixels.dtype == np.float32 or (nodata is not None and image.mode != "P"):
        pixels = depth(pixels, nodata)
    return orient(pixels, image.getexif().get(ORIENTATION_TAG, 1))


def _has_several_frames(image: Image.Image) -> bool:
    """Whether there is more than the first frame; smaller copies of it in a TIFF are none."""
    if not getattr(image, "is_animated", False):
        return False
    if not isinstance(image, TiffImageFile):
        return True
    image.seek(1)
    is_overview = bool(image.tag_v2.get(_OVERVIEW_TAG, 0) & 1)
    image.seek(0)
    return not is_overview


def _pillow_pixels(image: Image.Image) -> Pixels:
    """Converts any of Pillow's modes without loss of depth."""
    mode = image.mode
    if mode.startswith("I;16"):
        return with_channels(np.asarray(image).astype(np.uint16))
    if mode == "I":
        values = np.asarray(image)
        fits = values.min() >= 0 and values.max() <= 65535
        return with_channels(values.astype(np.uint16 if fits else np.float32))
    if mode == "F":
        return with_channels(np.asarray(image, dtype=np.float32))
    if mode == "1":
        image = image.convert("L")
    elif "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        grey = mode in ("L", "LA", "La")
        image = _blend(image.convert("LA" if grey else "RGBA"))
    elif mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return with_channels(np.asarray(image))


def _blend(image: Image.Image) -> Image.Image:
    opaque = image.mode.removesuffix("A")
    canvas = Image.new(
        opaque, image.size, (BACKGROUND,) * len(opaque) if opaque == "RGB" else BACKGROUND
    )
    canvas.paste(image.convert(opaque), mask=image.getchannel("A"))
    return canvas


def cache_key() -> str:
    """Names everything that may change what a scan finds, for its cache."""
    return f"5 pillow-{pillow_version} tifffile-{tifffile.__version__} {os.name}"
