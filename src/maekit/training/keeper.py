"""Which checkpoints of a run stay on disk, and which one a resumed run starts from."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maekit import checkpoint
from maekit.errors import CheckpointError

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps `last.pt`, `best.pt` and a few older `step-N.pt` in a folder.

    A new checkpoint is complete on the disk before an old one is renamed or deleted.
    """

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder, self.keep_last = folder, keep_last
        self._last_step: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.tmp"):  # of a process that was killed while saving
            unfinished.unlink()

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "last.pt"

    def save(self, state: Mapping[str, Any], step: int, is_best: bool) -> None:
        """Saves a state as the last checkpoint, and as the best one if it is.

        Raises:
            TrainingError: If there is no space; what was there stays.
        """
        fresh = self.folder / "next.pt"
        checkpoint.save(fresh, state)
        if self.last.exists() and self._last_step not in (None, step):
            self.last.rename(self._numbered(self._last_step or 0))
        fresh.replace(self.last)
        self._last_step = step
        if is_best:
            self._copy_to_best()
        older = sorted(self._older())  # by number: 9 before 10
        for number in older[: max(0, len(older) - (self.keep_last - 1))]:
            self._numbered(number).unlink()

    def _copy_to_best(self) -> None:
        copy = self.folder / ".best.pt.tmp"
        copy.unlink(missing_ok=True)
        try:
            os.link(self.last, copy)  # the same bytes twice cost no space
        except OSError:
            shutil.copyfile(self.last, copy)
        copy.replace(self.folder / "best.pt")

    def _numbered(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _older(self) -> list[int]:
        return [int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.pt")]

    def newest(self) -> dict[str, Any]:
        """Reads the newest checkpoint that is whole; damaged ones are named and passed over.

        Raises:
            CheckpointError: If none is whole.
        """
        older = [self._numbered(step) for step in sorted(self._older(), reverse=True)]
        # next.pt is complete where its process was killed before it could rename it.
        places = (self.folder / "next.pt", self.last, *older, self.folder / "best.pt")
        candidates = [path for path in places if path.exists()]
        damaged: list[str] = []
        for path in candidates:
            try:
                state = checkpoint.load(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            for line in damaged:
                logger.warning("%s", line)
            if damaged:
                logger.warning("Going on from %s, step %d.", path, state["progress"]["step"])
            self._adopt(path, state["progress"]["step"])
            return state
        if damaged:
            raise CheckpointError(f"No checkpoint in {self.folder} is usable. {' '.join(damaged)}")
        raise CheckpointError(f"{self.folder} holds no checkpoint to resume from.")

    def _adopt(self, path: Path, step: int) -> None:
        """Makes the checkpoint in use the last one, and sets a damaged last one aside."""
        if path.name == "next.pt":
            with contextlib.suppress(CheckpointError):
                before = checkpoint.load(self.last)["progress"]["step"]
                self.last.replace(self._numbered(before))
            path.replace(self.last)
        elif path != self.last and self.last.exists():
            self.last.replace(self.folder / "last.damaged.pt")
        self._last_step = step if path in (self.last, self.folder / "next.pt") else None


def has_checkpoint(run: Path) -> bool:
    """Whether a run folder holds anything to go on from; not if it ended before its first save."""
    return any((run / "checkpoints").glob("*.pt"))
