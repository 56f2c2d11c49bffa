"""One picture file to an array: orientation applied, depth kept, damage named.

Uses Pillow, and tifffile for what Pillow reduces or refuses (many bands, 16-bit colour, floats).
torchvision's decoder is not used: it crashes the process on damaged PNG files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL import __version__ as pillow_version

from maekit.errors import DecodeError, MaekitError, explain

# Pixels are uint8 (0 to 255), uint16 (0 to 65535) or float32 (as stored), shape (h, w, c).
Pixels = NDArray[Any]

# Pillow looks at the content and not at the name, but only for these formats. MPO comes with JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".ppm",
        ".pgm",
        ".pnm",
        ".dcm",
        ".dicom",
    ]
)
# What shows through where a picture is transparent.
BACKGROUND = 255
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MISSING = 1e37
_ORIENTATION_TAG, _GDAL_NODATA_TAG = 274, 42113


# What it logs of damaged tags is in the reason that a skipped file gets, or does not matter.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


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
                return _decode_dicom(path, max_pixels)
            if (
                magic[:4] in _TIFF_MAGIC
                and (raster := _decode_raster(path, max_pixels)) is not None
            ):
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
    return text if len(text) <= 160 else f"{text[:157]}..."


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


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise DecodeError(
            f"{height * width / 1e6:.0f} MP over limit ({width}×{height} px; "
            f"data.max_pixels is {max_pixels / 1e6:.0f} MP)"
        )
    if height == 0 or width == 0:
        raise DecodeError("has no pixels")


def _decode_pillow(path: Path, max_pixels: int, check: bool) -> tuple[Pixels, str, bool]:
    if check:
        # verify() and load() catch different damage: a PNG with a wrong checksum loads, and a
        # truncated JPEG verifies. verify() leaves the image unusable, hence two openings.
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(image.height, image.width, max_pixels)
            image.verify()
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(image.height, image.width, max_pixels)
        mode, several = image.mode, bool(getattr(image, "is_animated", False))
        return from_pillow(image), mode, several


def from_pillow(image: Image.Image) -> Pixels:
    """Converts an image that Pillow has opened, by the rules of `decode`."""
    image.load()
    return _orient(_pillow_pixels(image), image.getexif().get(_ORIENTATION_TAG, 1))


def _pillow_pixels(image: Image.Image) -> Pixels:
    """Converts any of Pillow's modes without loss of depth."""
    mode = image.mode
    if mode.startswith("I;16"):
        return _with_channels(np.asarray(image).astype(np.uint16))
    if mode == "I":
        values = np.asarray(image)
        fits = values.min() >= 0 and values.max() <= 65535
        return _with_channels(values.astype(np.uint16 if fits else np.float32))
    if mode == "F":
        return fill_gaps(_with_channels(np.asarray(image, dtype=np.float32)))
    if mode == "1":
        image = image.convert("L")
    elif "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        grey = mode in ("L", "LA", "La")
        image = _blend(image.convert("LA" if grey else "RGBA"))
    elif mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return _with_channels(np.asarray(image))


def _blend(image: Image.Image) -> Image.Image:
    opaque = image.mode.removesuffix("A")
    canvas = Image.new(
        opaque, image.size, (BACKGROUND,) * len(opaque) if opaque == "RGB" else BACKGROUND
    )
    canvas.paste(image.convert(opaque), mask=image.getchannel("A"))
    return canvas


def _with_channels(values: NDArray[Any]) -> Pixels:
    return values[:, :, None] if values.ndim == 2 else values


def _orient(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation, 1 to 8; anything else is taken as upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _decode_raster(path: Path, max_pixels: int) -> tuple[Pixels, str, bool] | None:
    """Decodes the first page of a TIFF that Pillow would reduce or refuse; None for the others."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        _check_size(page.imagelength, page.imagewidth, max_pixels)
        if _suits_pillow(page):
            return None
        try:
            values = np.asarray(page.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if page.samplesperpixel == 1:
                return None  # Pillow keeps the depth of a single band, and knows the compression.
            name = tifffile.COMPRESSION(page.compression).name
            raise DecodeError(
                f"compressed with {name}; run `pip install imagecodecs`", lasting=False
            ) from error
        values = np.squeeze(values) if values.ndim > 3 else values
        if values.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            values = np.moveaxis(values, 0, -1)
        if values.ndim not in (2, 3):
            raise DecodeError(f"a raster of {values.ndim} dimensions is not a picture")
        nodata = page.tags.get(_GDAL_NODATA_TAG)
        pixels = _depth(_with_channels(values), nodata.value if nodata else None)
        tag = page.tags.get(_ORIENTATION_TAG)
        # A second page is another frame, unless it is a smaller copy of the first (an overview).
        several = len(file.pages) > 1 and not file.pages[1].aspage().is_reduced
        return _orient(pixels, int(tag.value) if tag else 1), "bands", several


def _suits_pillow(page: Any) -> bool:  # tifffile's page has no public type
    """Whether Pillow reads all that is in a TIFF page: 8-bit grey or colour, palette, alpha."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    integer = page.sampleformat in (None, tifffile.SAMPLEFORMAT.UINT)
    alpha = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA}
    extra = set(page.extrasamples or ())
    bands = page.samplesperpixel - len(extra)
    return integer and bits <= 8 and extra <= alpha and bands in (1, 3, 4)


def _depth(values: Pixels, nodata: str | None) -> Pixels:
    """Keeps uint8 and uint16; turns everything else, and rasters with holes, into float32."""
    if np.iscomplexobj(values):
        raise DecodeError("holds complex numbers")
    holes = None
    if nodata is not None:
        with contextlib.suppress(ValueError):
            holes = values == float(str(nodata).strip("\0 "))
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype in (np.uint8, np.uint16) and (holes is None or not holes.any()):
        return values.astype(values.dtype.newbyteorder("="))
    floats = values.astype(np.float32)
    # Same scale as without holes, for one folder often holds rasters of both kinds.
    if values.dtype in (np.uint8, np.uint16):
        floats /= np.iinfo(values.dtype).max
    if holes is not None:
        floats[holes] = np.nan
    return fill_gaps(floats)


def fill_gaps(values: Pixels) -> Pixels:
    """Fills holes with the mean of the other values of their band.

    A hole is a value that is not finite, or so large that it can only stand for "missing": rasters
    often use the least float32 for it without saying so.
    """
    good = np.abs(values) < _MISSING  # False for NaN too
    if good.all():
        return values
    if not good.any():
        raise DecodeError("holds no finite value")
    means = np.where(good, values, 0).sum((0, 1), dtype=np.float64) / np.maximum(
        good.sum((0, 1)), 1
    )
    return np.where(good, values, means.astype(np.float32))


def _decode_dicom(path: Path, max_pixels: int) -> tuple[Pixels, str, bool]:
    """Decodes the first frame of a DICOM file to float32 in [0, 1], dark to bright."""
    try:
        import pydicom.pixels
    except ImportError as error:
        raise DecodeError("a DICOM file; run `pip install maekit[dicom]`", lasting=False) from error
    data = pydicom.dcmread(path)
    if "PixelData" not in data:
        raise DecodeError("a DICOM file without pixels")
    _check_size(int(data.Rows), int(data.Columns), max_pixels)
    several = int(data.get("NumberOfFrames", 1) or 1) > 1
    values = pydicom.pixels.utils.pixel_array(data, index=0 if several else None)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        colours = pydicom.pixels.processing.apply_color_lut(values, data)
        return _depth(colours, None), "PALETTE COLOR", several
    values = np.asarray(values, dtype=np.float32)
    low = -(2.0 ** (data.BitsStored - 1)) if data.PixelRepresentation else 0.0
    unit = _with_channels((values - low) / (2.0**data.BitsStored - 1))
    if data.PhotometricInterpretation == "MONOCHROME1":
        unit = 1.0 - unit
    return unit.astype(np.float32), str(data.PhotometricInterpretation), several


def match_channels(pixels: Pixels, channels: int) -> Pixels:
    """Gives a picture the channels a model expects: grey to colour and back, nothing else.

    Raises:
        DecodeError: If there is no faithful conversion, e.g. from 13 bands to 3.
    """
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if have == 3 and channels == 1:
        grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return (
            grey.round().astype(pixels.dtype)[:, :, None]
            if pixels.dtype != np.float32
            else grey[:, :, None]
        )
    raise DecodeError(f"has {have} channels where {channels} are expected (model.in_channels)")


def cache_key() -> str:
    """Names everything that may change what a scan finds, for its cache."""
    return f"4 pillow-{pillow_version} tifffile-{tifffile.__version__} {os.name}"
