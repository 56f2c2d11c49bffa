"""Every picture is opened once before training: what is usable, what is skipped and why.

The result is cached by path, size and time of change, so that a second scan reads no picture.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.data.listing import Listing, PathTable, spread
from maekit.data.scan_cache import cache_file, fill_from_cache, write_cache
from maekit.data.scan_pool import Progress, examine_all
from maekit.data.sources import ArraySource, FileSource
from maekit.data.survey import COLUMNS, Survey
from maekit.errors import DataError

_ARRAY_SAMPLE = 64


def survey_files(
    listing: Listing, place: Path, max_pixels: int, workers: int, progress: Progress
) -> Survey:
    """Opens every picture of a listing that the cache does not know.

    Args:
        listing: What to open.
        place: What the user named, for messages and the cache's name.
        max_pixels: Pictures with more are skipped.
        workers: Processes that decode.
        progress: Told how far it is.
    """
    cache = cache_file(place, max_pixels)
    columns: dict[str, NDArray[Any]] = {
        name: np.zeros(len(listing), dtype=kind) for name, kind in COLUMNS.items()
    }
    modes: list[str] = [""] * len(listing)
    reasons: dict[int, str] = {}
    todo = fill_from_cache(cache, listing, columns, modes, reasons)
    passing: set[int] = set()
    paths = [listing.root / listing.paths[row] for row in todo]

    def keep(position: int, answer: dict[str, Any]) -> None:
        row = todo[position]
        if "reason" in answer:
            reasons[row] = answer["reason"]
            if not answer["lasting"]:
                passing.add(row)
            return
        modes[row] = answer["mode"]
        for name, column in columns.items():
            column[row] = answer[name]

    try:
        examine_all(paths, max_pixels, workers, keep, progress)
    finally:
        # Also after Ctrl-C: what was opened need not be opened again.
        if todo:
            # A reason that is not the file's own, e.g. a missing package, is asked for again.
            done = [
                bool(mode) or (row in reasons and row not in passing)
                for row, mode in enumerate(modes)
            ]
            write_cache(cache, listing, columns, modes, reasons, np.array(done))
    counts = Counter(mode for mode in modes if mode)
    return Survey(
        place, listing.paths, columns, dict(counts), reasons, listing.sizes, listing.notes
    )


def survey_array(source: ArraySource) -> Survey:
    """Describes an array, whose pictures are all alike."""
    number = len(source)
    if not number:
        raise DataError(f"{source.path} holds no picture.")
    pixels = source.read(0)
    # To read all of a large array takes minutes; some pictures tell one array from another.
    content = hashlib.blake2b(digest_size=8)
    for index in spread(number, _ARRAY_SAMPLE).tolist():
        content.update(source.read(index).tobytes())
    digest = int.from_bytes(content.digest(), "little")
    facts = (*pixels.shape, pixels.dtype.itemsize * 8, False, digest)
    values = dict(zip(COLUMNS, facts, strict=True))
    columns: dict[str, NDArray[Any]] = {
        name: np.full(number, values[name], dtype=kind) for name, kind in COLUMNS.items()
    }
    names = PathTable.of([source.name(index) for index in range(number)])
    sizes = np.full(number, pixels.nbytes, dtype=np.int64)
    return Survey(source.path, names, columns, {"array": number}, {}, sizes)


def file_source(listing: Listing, survey: Survey, max_pixels: int) -> FileSource:
    """Returns the usable pictures as a source."""
    usable = survey.usable
    paths = listing.paths
    if len(usable) < len(paths):
        paths = PathTable.of([paths[int(row)] for row in usable])
    return FileSource(listing.root, paths, max_pixels)
