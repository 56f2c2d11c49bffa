"""Where pictures come from: a folder, a list of files, or an array; all read by index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maekit.data.decode import decode
from maekit.data.listing import PathTable
from maekit.data.pixels import Pixels, fill_gaps
from maekit.errors import DataError

_ARRAYS = frozenset({".npy", ".npz"})


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
class Joined:
    """The pictures of one source, then those of another."""

    first: Source
    second: Source

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def name(self, index: int) -> str:
        """Returns the name in its own source."""
        source, index = self._place(index)
        return source.name(index)

    def read(self, index: int) -> Pixels:
        """Decodes a picture."""
        source, index = self._place(index)
        return source.read(index)

    def _place(self, index: int) -> tuple[Source, int]:
        if index < len(self.first):
            return self.first, index
        return self.second, index - len(self.first)


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


def is_array(place: Path) -> bool:
    """Whether a source is an array file."""
    return place.suffix.lower() in _ARRAYS and not place.is_dir()


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
