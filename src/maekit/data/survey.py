"""What a scan found of a folder: which pictures are usable, which are not, and why."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maekit.data.listing import PathTable
from maekit.errors import DataError
from maekit.runtime import write_text

# What is kept of each picture, in flat arrays.
COLUMNS = {
    "height": np.int32,
    "width": np.int32,
    "channels": np.int16,
    "bits": np.int8,
    "several_frames": np.bool_,
    "digest": np.uint64,
}


class Skip(NamedTuple):
    """A picture that is not used."""

    name: str
    reason: str


def write_skips(path: Path, skips: Iterable[Skip]) -> None:
    """Writes skipped pictures and reasons, a JSON object a line."""
    write_text(path, "".join(json.dumps(skip._asdict()) + "\n" for skip in skips))


@dataclass(frozen=True)
class Survey:
    """What a scan found, one row a listed picture."""

    place: Path
    names: PathTable
    columns: dict[str, NDArray[Any]]
    """`height`, `width`, `channels`, `bits`, `several_frames`, `digest`; 0 where not usable."""
    modes: dict[str, int]
    """Colour mode → number of usable pictures."""
    reasons: dict[int, str]
    """Row → why it is skipped."""
    sizes: NDArray[np.int64]
    """Bytes."""
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def usable(self) -> NDArray[np.int64]:
        """Rows of the usable pictures, in order."""
        rows = np.ones(len(self.names), dtype=bool)
        rows[list(self.reasons)] = False
        return np.flatnonzero(rows)

    @property
    def skips(self) -> list[Skip]:
        """What is skipped and why, in order."""
        return [Skip(self.names[row], self.reasons[row]) for row in sorted(self.reasons)]

    def of_usable(self, column: str) -> NDArray[Any]:
        """Returns a column's values of the usable pictures."""
        values: NDArray[Any] = self.columns[column][self.usable]
        return values

    def skipping_other_channels(self, channels: int) -> Survey:
        """Skips pictures that cannot be given `channels`; grey and colour stand for each other."""
        have = self.columns["channels"]
        alike = np.isin(have, (1, 3)) if channels in (1, 3) else have == channels
        other = {
            int(row): f"has {have[row]} channels where {channels} are expected (model.in_channels)"
            for row in self.usable
            if not alike[row]
        }
        return replace(self, reasons=self.reasons | other)

    def fingerprint(self) -> str:
        """Identifies the data: number, names, sizes and contents of all listed pictures."""
        digest = hashlib.blake2b(self.columns["digest"].tobytes(), digest_size=16)
        for name, size in zip(self.names, self.sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return f"{len(self.names)}-{digest.hexdigest()}"

    def check_skips(self, max_skipped: float) -> None:
        """Refuses data of which too much is broken, or all.

        Args:
            max_skipped: Share of all pictures that may be skipped; ten always may.

        Raises:
            DataError: With the first reasons.
        """
        first = "; ".join(f"{skip.name}: {skip.reason}" for skip in self.skips[:3])
        if not len(self.usable):
            raise DataError(
                f"None of the {len(self.names)} pictures in {self.place} can be used. {first}."
            )
        if len(self.reasons) > max(10, max_skipped * len(self.names)):
            raise DataError(
                f"{len(self.reasons)} of {len(self.names)} pictures in {self.place} cannot be "
                f"used, more than data.max_skipped = {max_skipped} allows. {first}. See them all "
                "with `mae check`."
            )

    def duplicates(self) -> list[list[int]]:
        """Groups of usable rows whose files are equal, byte for byte."""
        if "array" in self.modes:
            return []  # one file; its pictures share one digest
        rows, digests = self.usable, self.of_usable("digest")
        order = np.argsort(digests, kind="stable")
        groups = np.split(rows[order], np.flatnonzero(np.diff(digests[order])) + 1)
        return [
            sorted(group.tolist())
            for group in groups
            if len(group) > 1 and self.columns["digest"][group[0]]
        ]
