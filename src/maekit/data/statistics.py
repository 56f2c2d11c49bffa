"""Mean and deviation of each channel, measured on a bounded sample of the pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch

from maekit.data.listing import spread
from maekit.data.scan_pool import Progress
from maekit.data.sources import Source
from maekit.data.transforms import EvalTransform, to_tensor, to_unit
from maekit.errors import DataError, DecodeError

# The error of a mean over this many pictures is a few per cent of a deviation: more than enough.
SAMPLE = 1024
# A channel that never varies would be divided by zero.
_LEAST_STD = 1e-3


class ChannelStatistics(NamedTuple):
    """Statistics in unit scale, one value a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def measure_channels(
    source: Source, image_size: tuple[int, int], channels: int, progress: Progress
) -> ChannelStatistics:
    """Measures up to `SAMPLE` pictures, spread evenly over the source, at the training size.

    Raises:
        DataError: If every picture is one and the same flat colour.
    """
    transform = EvalTransform(image_size)
    chosen = spread(len(source), SAMPLE)
    total = torch.zeros(channels, dtype=torch.float64)
    squares = torch.zeros(channels, dtype=torch.float64)
    count = 0
    for done, index in enumerate(chosen.tolist(), start=1):
        try:
            view = to_unit(transform(to_tensor(source.read(index), channels))).double()
        except DecodeError:
            continue  # changed since the scan; training counts and reports it
        total += view.sum((1, 2))
        squares += view.square().sum((1, 2))
        count += view.shape[1] * view.shape[2]
        progress(done, len(chosen))
    if not count:
        raise DataError("No picture could be read to measure the channels' mean and deviation.")
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    if not bool(torch.isfinite(std).all()):
        raise DataError("The pictures' values are too large to measure; are missing values marked?")
    if float(std.max()) == 0.0:
        raise DataError("All pictures are one flat colour; there is nothing to learn from them.")
    least = _LEAST_STD * float(std.max())
    # Six significant digits: what is printed, saved and used are the same numbers.
    return ChannelStatistics(
        tuple(float(f"{value:.6g}") for value in mean.tolist()),
        tuple(float(f"{max(value, least):.6g}") for value in std.tolist()),
    )
