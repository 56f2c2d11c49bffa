"""From what a user names (folder, list, array) to a scanned source of usable pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

from maekit.data.listing import list_pictures
from maekit.data.loader import DataConfig
from maekit.data.scan import file_source, survey_array, survey_files
from maekit.data.scan_pool import Progress
from maekit.data.sources import Source, is_array, open_array
from maekit.data.survey import Survey
from maekit.runtime import num_cores

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


def most_common_channels(found: Survey) -> int:
    """Returns the channels that most usable pictures have; colour where grey and colour mix."""
    counts: Counter[int] = Counter(found.of_usable("channels").tolist())
    if not counts:
        return 3  # none is usable, which `check_skips` says
    (channels, _), *_ = counts.most_common(1)
    return 3 if channels == 1 and counts[3] else channels
