"""Where pictures come from: a folder, a list of files, or an array; all read by index."""

from __future__ import annotations

import csv
import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maekit.data.decode import SUFFIXES, Pixels, decode, fill_gaps
from maekit.errors import ConfigError, DataError

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_LISTS = frozenset({".txt", ".csv"})
_ARRAYS = frozenset({".npy", ".npz"})


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


@runtime_checkable
class Source(Protocol):
    """Pictures by index. Sources are small to pickle: workers receive them."""

    def __len__(self) -> int:
        """Number of pictures."""

    def name(self, index: int) -> str:
        """Returns what identifies a picture to its owner: a relative path, or `file[index]`."""

    def read(self, index: int) -> Pixels:
        """Decodes a picture.

        Raises:
            DecodeError: If it cannot be decoded.
        """


@dataclass(frozen=True)
class FileSource:
    """Picture files below a folder."""

    root: Path
    paths: PathTable
    max_pixels: int

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Returns the path relative to the root."""
        return str(self.paths[index])

    def read(self, index: int) -> Pixels:
        """Decodes a file."""
        return decode(self.root / self.paths[index], self.max_pixels)


@dataclass(frozen=True)
class Subset:
    """Some of the pictures of a source, in the order given."""

    source: Source
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Returns the name in the whole source."""
        return self.source.name(int(self.indices[index]))

    def read(self, index: int) -> Pixels:
        """Decodes a picture."""
        return self.source.read(int(self.indices[index]))


@dataclass(frozen=True)
class ArraySource:
    """Pictures in one array of shape (n, h, w), (n, h, w, c) or (n, c, h, w)."""

    path: Path
    images: NDArray[Any]
    channels_first: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """Returns the file's name and the index."""
        return f"{self.path.name}[{index}]"

    def read(self, index: int) -> Pixels:
        """Returns one picture, its channels last."""
        pixels = self.images[index]
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        elif self.channels_first:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.dtype not in (np.uint8, np.uint16):
            pixels = fill_gaps(pixels.astype(np.float32))
        return np.ascontiguousarray(pixels)


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

    Raises:
        ConfigError: If `out` lies inside the folder `pictures`.
    """
    if pictures.is_dir() and out.resolve().is_relative_to(pictures.resolve()):
        raise ConfigError(
            f"The folder {out} lies inside the pictures' folder {pictures}, where nothing is ever "
            "written; choose another with --out."
        )


def is_array(place: Path) -> bool:
    """Whether a source is an array file."""
    return place.suffix.lower() in _ARRAYS and not place.is_dir()


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


def _list_file(path: Path) -> Listing:
    """Reads a list: one path a line, or a csv with a column `path`.

    Paths are relative to the list's folder.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8.") from error
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


def open_array(
    path: Path, name: str | None, layout: Literal["nhwc", "nchw"] | None = None
) -> ArraySource:
    """Opens a .npy file (mapped, not read) or one array of a .npz file.

    Args:
        path: The file.
        name: Which array of a .npz; found by itself where only one has the shape of pictures.
        layout: Where the channels stand; found by itself where the shape leaves no doubt.

    Raises:
        DataError: If the file is damaged or holds no array of pictures.
    """
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            images = loaded
        else:
            with loaded:
                images = loaded[
                    _array_name(path, name, {key: loaded[key].ndim for key in loaded.files})
                ]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable array file: {error}") from error
    if images.ndim not in (3, 4) or images.dtype.kind not in "uifb":
        raise DataError(
            f"{path} holds an array of shape {images.shape} and type {images.dtype}; pictures have "
            "shape (n, h, w), (n, h, w, c) or (n, c, h, w) and numbers for values."
        )
    if images.ndim == 3:
        return ArraySource(path, images)
    return ArraySource(path, images, (layout or _layout(path, images.shape)) == "nchw")


def _layout(path: Path, shape: tuple[int, ...]) -> str:
    """Tells channels from sides: at most four are channels, two equal ones are sides."""
    _, first, middle, last = shape
    if last <= 4 or first <= 4:
        return "nhwc" if last <= 4 else "nchw"
    if (first == middle) != (middle == last):
        return "nhwc" if first == middle else "nchw"
    raise DataError(
        f"{path} has shape {shape}, in which channels cannot be told from sides; say which with "
        "--data.array_layout nhwc or nchw."
    )


def _array_name(path: Path, name: str | None, dimensions: dict[str, int]) -> str:
    if name is not None:
        if name not in dimensions:
            raise DataError(f"{path} has no array '{name}'; it has {', '.join(dimensions)}.")
        return name
    fitting = [key for key, ndim in dimensions.items() if ndim in (3, 4)]
    usual = [key for key in ("images", "train_images", "x_train", "data") if key in fitting]
    if len(fitting) == 1 or usual:
        return (usual or fitting)[0]
    raise DataError(
        f"{path} holds several arrays; choose with --data.array: {', '.join(dimensions)}."
    )
