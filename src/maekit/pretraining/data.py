"""From the user's folder to sources that are ready to train on."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
import torch

from maekit.data.decode import cache_key
from maekit.data.loader import DataConfig
from maekit.data.opening import Counting
from maekit.data.sources import Source, Subset
from maekit.data.statistics import ChannelStatistics, measure_channels
from maekit.data.survey import Survey
from maekit.errors import DataError
from maekit.runtime import cache_folder, mix, replace_file

# Tells the held-out choice from the other uses of the seed.
_HOLD_OUT = 4


class Pictures(NamedTuple):
    """The usable pictures in two parts."""

    train: Subset
    val: Subset
    """Held out; empty where there are fewer than ten pictures."""


def split(source: Source, config: DataConfig, seed: int) -> Pictures:
    """Holds some pictures out, chosen by the seed.

    Raises:
        DataError: If nothing would be left to train on.
    """
    number = len(source)
    if number < 2:
        raise DataError("One picture is too few to learn from; two are the least, thousands help.")
    held = config.val_images
    if held is None:
        held = 0 if number < 10 else min(1000, max(8, round(0.02 * number)), number // 5)
    if held >= number:
        raise DataError(
            f"data.val_images = {held} leaves nothing to train on: there are {number} usable "
            "pictures."
        )
    generator = torch.Generator().manual_seed(mix(seed, _HOLD_OUT))
    order = torch.randperm(number, generator=generator).numpy()
    return Pictures(Subset(source, np.sort(order[held:])), Subset(source, np.sort(order[:held])))


def channel_statistics(
    source: Source, found: Survey, image_size: tuple[int, int], channels: int, counting: Counting
) -> ChannelStatistics:
    """Measures mean and deviation of the channels, or remembers them.

    Raises:
        DataError: If the pictures are one flat colour.
    """
    key = " ".join(
        map(
            str,
            (
                found.place.resolve(),
                found.fingerprint(),
                image_size,
                channels,
                len(source),
                cache_key(),
            ),
        )
    )
    name = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    cache = cache_folder() / f"statistics-{name}.json"
    try:
        stored: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8"))
        return ChannelStatistics(tuple(stored["mean"]), tuple(stored["std"]))
    except (OSError, ValueError, KeyError):
        pass  # not measured yet, or the cache is damaged and is made anew
    with counting("Measuring colours") as progress:
        measured = measure_channels(source, image_size, channels, progress)
    try:
        with replace_file(cache) as file:
            file.write(json.dumps(measured._asdict()).encode())
    except OSError:
        pass  # a read-only home costs a second measurement, nothing else
    return measured
