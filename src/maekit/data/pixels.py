"""Decoded pixels: their form, their orientation, their missing values, their channels."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.errors import DecodeError

# Pixels are uint8 (0 to 255), uint16 (0 to 65535) or float32 (as stored), shape (h, w, c).
Pixels = NDArray[Any]

_MISSING = 1e37


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuses a picture that is too large or has no pixels, before it is decoded.

    Raises:
        DecodeError: If it is.
    """
    if height * width > max_pixels:
        raise DecodeError(
            f"{height * width / 1e6:.0f} MP over limit ({width}×{height} px; "
            f"data.max_pixels is {max_pixels / 1e6:.0f} MP)"
        )
    if height == 0 or width == 0:
        raise DecodeError("has no pixels")


def with_channels(values: NDArray[Any]) -> Pixels:
    """Gives a grey picture its axis of channels."""
    return values[:, :, None] if values.ndim == 2 else values


def orient(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation, 1 to 8; anything else is taken as upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def depth(values: Pixels, nodata: str | None) -> Pixels:
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
