"""What earlier scans found, by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.data.decode import cache_key
from maekit.data.listing import Listing, PathTable
from maekit.runtime import cache_folder, replace_file


def cache_file(place: Path, max_pixels: int) -> Path:
    """Returns where the scan of a place is kept; another decoder's scan is another file."""
    name = hashlib.blake2b(f"{place.resolve()} {max_pixels} {cache_key()}".encode(), digest_size=12)
    return cache_folder() / f"scan-{name.hexdigest()}.npz"


def fill_from_cache(
    cache: Path,
    listing: Listing,
    columns: dict[str, NDArray[Any]],
    modes: list[str],
    reasons: dict[int, str],
) -> list[int]:
    """Fills in what the cache knows of unchanged files; returns the rows that it does not know."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            old = {name: stored[name] for name in stored.files}
        text = json.loads(bytes(old["text"]))
        paths = PathTable(bytes(old["blob"]), old["ends"])
        rows = {path: row for row, path in enumerate(paths) if old["done"][row]}
    except FileNotFoundError:
        return list(range(len(listing)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return list(range(len(listing)))  # damaged: it is only a cache, and is made anew
    todo = []
    for row, path in enumerate(listing.paths):
        was = rows.get(path)
        if was is None or (old["sizes"][was], old["mtimes"][was]) != (
            listing.sizes[row],
            listing.mtimes[row],
        ):
            todo.append(row)
            continue
        if (reason := text["reasons"].get(str(was))) is not None:
            reasons[row] = reason
        else:
            modes[row] = text["modes"][old["mode"][was]]
            for name, column in columns.items():
                column[row] = old[name][was]
    return todo


def write_cache(
    cache: Path,
    listing: Listing,
    columns: dict[str, NDArray[Any]],
    modes: list[str],
    reasons: dict[int, str],
    done: NDArray[np.bool_],
) -> None:
    """Keeps the rows that are `done`; a home that cannot be written to is left alone."""
    names = sorted(set(modes))
    text = json.dumps({"modes": names, "reasons": reasons}).encode()
    encoded = [os.fsencode(path) for path in listing.paths]
    arrays = columns | {
        "blob": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "ends": np.cumsum([len(path) for path in encoded], dtype=np.int64),
        "sizes": listing.sizes,
        "mtimes": listing.mtimes,
        "mode": np.array([names.index(mode) for mode in modes], dtype=np.int16),
        "done": done,
        "text": np.frombuffer(text, dtype=np.uint8),
    }
    try:
        with replace_file(cache) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub mistakes the arrays for a flag
    except OSError:
        pass  # a read-only or full home costs a second scan, nothing else
