"""Rasters beyond Pillow: TIFF files of many bands, 16 bits or floats, and DICOM files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from maekit.data.pixels import Pixels, check_size, depth, orient, with_channels
from maekit.errors import DecodeError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION_TAG, NODATA_TAG = 274, 42113
_ALPHA = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA}

# What it logs of damaged tags is in the reason that a skipped file gets, or does not matter.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def decode_raster(path: Path, max_pixels: int) -> tuple[Pixels, str, bool] | None:
    """Decodes the first page of a TIFF that Pillow would reduce or refuse; None for the others."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        check_size(page.imagelength, page.imagewidth, max_pixels)
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
        nodata = page.tags.get(NODATA_TAG)
        values = _without_alpha(with_channels(values), set(page.extrasamples or ()))
        pixels = depth(values, nodata.value if nodata else None)
        tag = page.tags.get(ORIENTATION_TAG)
        # A second page is another frame, unless it is a smaller copy of the first (an overview).
        several = len(file.pages) > 1 and not file.pages[1].aspage().is_reduced
        return orient(pixels, int(tag.value) if tag else 1), "bands", several


def _without_alpha(values: Pixels, extra: set[int]) -> Pixels:
    """Blends a last band that is declared to be alpha over white; bands that are not, stay."""
    if len(extra) != 1 or not extra <= _ALPHA or values.dtype not in (np.uint8, np.uint16):
        return values
    if values.shape[2] not in (2, 4):
        return values  # alpha of a many-banded raster marks its edge; there is no white for it
    full = np.iinfo(values.dtype).max
    opacity = values[:, :, -1:].astype(np.float64) / full
    colours = values[:, :, :-1].astype(np.float64)
    if extra == {tifffile.EXTRASAMPLE.UNASSALPHA}:
        colours *= opacity
    return (colours + (1 - opacity) * full).round().clip(0, full).astype(values.dtype)


def _suits_pillow(page: Any) -> bool:  # tifffile's page has no public type
    """Whether Pillow reads all that is in a TIFF page: 8-bit grey or colour, palette, alpha."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    integer = page.sampleformat in (None, tifffile.SAMPLEFORMAT.UINT)
    extra = set(page.extrasamples or ())
    bands = page.samplesperpixel - len(extra)
    return integer and bits <= 8 and extra <= _ALPHA and bands in (1, 3, 4)


def decode_dicom(path: Path, max_pixels: int) -> tuple[Pixels, str, bool]:
    """Decodes the first frame of a DICOM file to float32 in [0, 1], dark to bright."""
    try:
        import pydicom.pixels
    except ImportError as error:
        raise DecodeError("a DICOM file; run `pip install maekit[dicom]`", lasting=False) from error
    data = pydicom.dcmread(path)
    if "PixelData" not in data:
        raise DecodeError("a DICOM file without pixels")
    check_size(int(data.Rows), int(data.Columns), max_pixels)
    several = int(data.get("NumberOfFrames", 1) or 1) > 1
    values = pydicom.pixels.utils.pixel_array(data, index=0 if several else None)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        colours = pydicom.pixels.processing.apply_color_lut(values, data)
        return depth(colours, None), "PALETTE COLOR", several
    values = np.asarray(values, dtype=np.float32)
    low = -(2.0 ** (data.BitsStored - 1)) if data.PixelRepresentation else 0.0
    unit = with_channels((values - low) / (2.0**data.BitsStored - 1))
    if data.PhotometricInterpretation == "MONOCHROME1":
        unit = 1.0 - unit
    return unit.astype(np.float32), str(data.PhotometricInterpretation), several
