"""What can go wrong through no fault of the code: one line for the user, exit code 2."""

from __future__ import annotations

import errno
from pathlib import Path


class MaekitError(Exception):
    """Base of every error a user can cause and mend. The command prints its text alone."""


class ConfigError(MaekitError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class DataError(MaekitError):
    """The pictures cannot be used as they are: none found, too few, too many broken."""


class DecodeError(MaekitError):
    """One picture cannot be decoded. The scan turns it into a skip with this reason."""

    def __init__(self, reason: str, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting
        """Whether it is the file's own fault; otherwise the next scan tries again."""


class CheckpointError(MaekitError):
    """A checkpoint is missing, damaged, unsafe, or does not fit what was asked."""


class TrainingError(MaekitError):
    """Training cannot go on: the loss stayed non-finite, or a disk is full."""


def explain(error: BaseException) -> str:
    """Returns the error's text, or its type's name where the text is empty."""
    return str(error).strip() or type(error).__name__


def explain_write(path: Path, error: OSError) -> str:
    """Says in one sentence why `path` could not be written; a full disk is called that."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"No space left to write {path}. Free some space; nothing older was touched."
    return f"Cannot write {path}: {error.strerror or explain(error)}."
