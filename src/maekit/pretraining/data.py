"""From the user's folder to sources that are ready to train on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from maekit.data.decode import cache_key
from maekit.data.listing import list_pictures
from maekit.data.loader import DataConfig
from maekit.data.scan import file_source, survey_array, survey_files
from maekit.data.scan_pool import Progress
from maekit.data.sources import Source, Subset, is_array, open_array
from maekit.data.statistics import ChannelStatistics, measure_channels
from maekit.data.survey import Survey
from maekit.errors import DataError
from maekit.runtime import cache_folder, mix, num_cores, replace_file

# Tells the held-out choice from the other uses of the seed.
_HOLD_OUT = 4

Counting = Callable[[str], AbstractContextManager[Progress]]
"""Shows a named count while its context is open."""


def survey(
    config: DataConfig, counting: Counting, channels: int | Literal["any", "most"]
) -> tuple[Survey, Source]:
    """Lists and scans the pictures; only usable ones are in the source.

    Args:
        config: Which pictures.
        counting: Shows the progress.
        channels: Pictures that cannot be given this many are skipped (only grey and colour are
            turned into each other); `most` means as many as most of them have, `any` skips none.

    Raises:
        DataError: If there are none, or too many are unusable.
    """
    if is_array(config.dir):
        array = open_array(config.dir, config.array, config.array_layout)
        return _fitting(survey_array(array), config, channels), array
    listing = list_pictures(config.dir)
    with counting("Scanning pictures") as progress:
        found = survey_files(listing, config.dir, config.max_pixels, num_cores(), progress)
    found = _fitting(found, config, channels)
    return found, file_source(listing, found, config.max_pixels)


def _fitting(found: Survey, config: DataConfig, channels: int | Literal["any", "most"]) -> Survey:
    if channels != "any":
        expected = most_common_channels(found) if channels == "most" else channels
        found = found.skipping_other_channels(expected)
    found.check_skips(config.max_skipped)
    return found


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


def most_common_channels(found: Survey) -> int:
    """Returns the channels that most usable pictures have; colour where grey and colour mix."""
    counts: Counter[int] = Counter(found.of_usable("channels").tolist())
    if not counts:
        return 3  # none is usable, which `check_skips` says
    (channels, _), *_ = counts.most_common(1)
    return 3 if channels == 1 and counts[3] else channels


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
