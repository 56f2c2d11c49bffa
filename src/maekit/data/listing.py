"""The picture files of a folder or a list, found without opening any, in a fixed order."""

from __future__ import annotations

import csv
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maekit.data.decode import SUFFIXES
from maekit.errors import ConfigError, DataError

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_LISTS = frozenset({".txt", ".csv"})


class PathTable(Sequence[str]):
    """Paths in one block of bytes: a fifth of the memory of a list, and never copied by workers."""

    def __init__(self, blob: bytes, ends: NDArray[np.int64]) -> None:
        self._blob, self._ends = blob, ends

    @classmethod
    def of(cls, paths: Sequence[str]) -> PathTable:
        """Builds a table of `paths`.

        >>> list(PathTable.of(["a/1.png", "b.png"]))
        ['a/1.png', 'b.png']
        """
        encoded = [os.fsencode(path) for path in paths]
        return cls(b"".join(encoded), np.cumsum([len(path) for path in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:  # Sequence's overloads: slices give a table
        if isinstance(index, slice):
            return PathTable.of([self[i] for i in range(*index.indices(len(self)))])
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._blob[start : int(self._ends[index])])


@dataclass(frozen=True)
class Listing:
    """The picture files of a source, before any was opened."""

    root: Path
    """Folder to which `paths` are relative."""
    paths: PathTable
    sizes: NDArray[np.int64]
    """Bytes, -1 where the file is missing."""
    mtimes: NDArray[np.int64]
    """Time of last change, in nanoseconds."""
    notes: tuple[str, ...] = ()
    """What was passed over, in words, e.g. `2 links to files that are listed already`."""

    def __len__(self) -> int:
        return len(self.paths)


def list_pictures(place: Path) -> Listing:
    """Lists the picture files of a folder (recursively) or of a list file, in a fixed order.

    In a folder, hidden files and folders, `__MACOSX` and `Thumbs.db` are passed over; links are
    followed, each folder and each file once, so that loops end and aliases do not count twice.

    Raises:
        DataError: If there is no such place, or it holds no picture.
    """
    if not place.exists():
        raise DataError(f"There is no folder or file {place}; give the folder of your pictures.")
    if place.is_dir():
        listing = _list_folder(place)
    elif place.suffix.lower() in _LISTS:
        listing = _list_file(place)
    else:
        raise DataError(
            f"{place} is neither a folder, nor a list (.txt, .csv), nor an array (.npy, .npz)."
        )
    if not len(listing):
        passed = f" ({'; '.join(listing.notes)})" if listing.notes else ""
        raise DataError(
            f"{place} holds no picture{passed}. Known suffixes: {' '.join(sorted(SUFFIXES))}."
        )
    return listing


def spread(number: int, most: int) -> NDArray[np.int64]:
    """Returns at most `most` of `number` indices, evenly spread, in order.

    >>> spread(10, 3).tolist()
    [0, 4, 9]
    """
    return np.unique(np.linspace(0, number - 1, min(most, number)).astype(np.int64))


def check_outside(out: Path, pictures: Path) -> None:
    """Refuses to write among the pictures.

    A single picture, or one beside the list that names it, only bars its own folder itself:
    people work in the folder where it lies.

    Raises:
        ConfigError: If `out` lies inside the folder `pictures`, or a folder of listed pictures.
    """
    target = out.resolve()
    if pictures.is_dir():
        folders, here = {pictures.resolve()}, None
    elif pictures.suffix.lower() in _LISTS and pictures.exists():
        listing = list_pictures(pictures)
        folders = {(listing.root / name).parent.resolve() for name in listing.paths}
        here = pictures.parent.resolve()
    else:
        here = pictures.parent.resolve()
        folders = {here}
    for folder in (target, *target.parents):
        if folder in folders and (folder != here or folder == target):
            raise ConfigError(
                f"The folder {out} lies inside the pictures' folder {folder}, where nothing is "
                "ever written; choose another with --out."
            )


def pictures_of(places: Iterable[Path], most: int | None = None) -> tuple[list[Path], set[Path]]:
    """Returns the picture files of some places, in order, and those of them that were named.

    Args:
        places: Pictures, lists of them or folders.
        most: Pictures taken of each folder or list, evenly spread; all if None.

    Raises:
        DataError: If there is none.
    """
    paths: list[Path] = []
    named: set[Path] = set()
    for place in places:
        if place.is_dir() or place.suffix.lower() in _LISTS:
            listing = list_pictures(place)
            number = len(listing.paths)
            rows = range(number) if most is None else spread(number, most).tolist()
            paths += [listing.root / listing.paths[row] for row in rows]
        else:
            paths.append(place)
            named.add(place)
    if not paths:
        raise DataError("No picture was given.")
    return paths, named


class _Found:
    """Grows a listing in flat arrays: ten million files fit in a few hundred megabytes."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.ends, self.sizes, self.mtimes = array("q"), array("q"), array("q")
        self.identities, self.is_link = array("Q"), array("b")

    def add(self, path: str, status: os.stat_result | None, is_link: bool) -> None:
        self.blob += os.fsencode(path)
        self.ends.append(len(self.blob))
        self.sizes.append(status.st_size if status else -1)
        self.mtimes.append(status.st_mtime_ns if status else 0)
        # A file system without inode numbers says 0 for all: then every file is its own.
        known = status is not None and status.st_ino != 0
        identity = status.st_ino ^ (status.st_dev << 44) if status and known else ~len(self.ends)
        self.identities.append(identity & 0xFFFF_FFFF_FFFF_FFFF)
        self.is_link.append(is_link)

    def listing(self, root: Path, notes: list[str]) -> Listing:
        ends = np.frombuffer(self.ends, dtype=np.int64)
        keep = self._first_of_each()
        if len(keep) < len(ends):
            notes.append(f"{len(ends) - len(keep)} links to files that are listed already")
        table = PathTable(bytes(self.blob), ends)
        if len(keep) < len(ends):
            table = PathTable.of([table[int(i)] for i in keep])
        sizes, mtimes = np.array(self.sizes, dtype=np.int64), np.array(self.mtimes, dtype=np.int64)
        return Listing(root, table, sizes[keep], mtimes[keep], tuple(notes))

    def _first_of_each(self) -> NDArray[Any]:
        """Indices that keep every file once, the file itself rather than a link to it."""
        identities = np.frombuffer(self.identities, dtype=np.uint64)
        order = np.lexsort((np.frombuffer(self.is_link, dtype=np.int8), identities))
        ranked = identities[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = ranked[1:] != ranked[:-1]
        return np.sort(order[first])


def _list_folder(root: Path) -> Listing:
    found, notes = _Found(), []
    other = dangling = unreadable = 0
    seen: set[tuple[int, int]] = set()
    for path, status, is_link in _walk(root, seen):
        if status is None:
            dangling += is_link
            unreadable += not is_link
        elif not stat.S_ISREG(status.st_mode) or Path(path).suffix.lower() not in SUFFIXES:
            other += 1
        else:
            found.add(path, status, is_link)
    for count, what in (
        (other, "other files"),
        (dangling, "links that lead nowhere"),
        (unreadable, "folders that cannot be read"),
    ):
        if count:
            notes.append(f"{count} {what}")
    return found.listing(root, notes)


def _walk(
    root: Path, seen: set[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result | None, bool]]:
    """Yields every file below `root` as (relative path, status, is a link), names in order."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(root / folder)
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link that leads back: every folder is entered once
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield folder, None, False
            continue
        below = []
        for entry in ordered:
            if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
                continue
            path = os.path.join(folder, entry.name)
            try:
                if entry.is_dir():
                    below.append(path)
                else:
                    yield path, entry.stat(), entry.is_symlink()
            except OSError:
                yield path, None, True
        # Real folders before links to folders, so that a file is listed under its own name.
        below.sort(key=lambda path: (os.path.islink(root / path), path))
        pending.extend(reversed(below))


def read_text(path: Path) -> str:
    """Reads a list or a table.

    Raises:
        DataError: If it is not there or no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"There is no folder or file {path}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8.") from error


def _list_file(path: Path) -> Listing:
    """Reads a list: one path a line, or a csv with a column `path`.

    Paths are relative to the list's folder.
    """
    text = read_text(path)
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(text.splitlines())
        if "path" not in (rows.fieldnames or ()):
            raise DataError(
                f"{path} needs a column named 'path'; it has {rows.fieldnames or 'none'}."
            )
        names = [row["path"] or "" for row in rows]
    else:
        names = [line.strip() for line in text.splitlines()]
    found = _Found()
    for name in filter(None, names):
        try:
            found.add(name, os.stat(path.parent / name), is_link=False)
        except OSError:
            found.add(name, None, is_link=False)  # the scan reports it as not found
    return found.listing(path.parent, [])
