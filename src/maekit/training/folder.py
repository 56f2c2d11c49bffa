"""The folder of a run: where it may lie, how it is opened, how its settings are taken up again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from maekit.config import Given, build, changed, read_yaml, to_plain_text
from maekit.data.listing import check_outside
from maekit.errors import CheckpointError, ConfigError
from maekit.log import add_log_file

T = TypeVar("T")


def check_out(out: Path, pictures: Path, resume: Path | None) -> None:
    """Refuses a run folder that would harm something.

    Raises:
        ConfigError: If it lies among the pictures, or holds a run already.
    """
    check_outside(out, pictures)
    if resume is None and (out / "config.yaml").exists():
        raise ConfigError(
            f"{out} holds a run already. Go on with it by --resume {out}, or choose another --out."
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; choose another --out.")


def open_folder(out: Path) -> logging.Handler:
    """Makes the run folder and starts its log; returns what `remove_log_file` takes.

    Raises:
        ConfigError: If it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the run folder {out}: {error.strerror}.") from error
    return add_log_file(out / "log.txt")


def resumed_config(
    cls: type[T],
    folder: Path,
    given: Mapping[str, Given],
    anew: tuple[str, ...],
    safe_to_change: tuple[str, ...],
) -> T:
    """Builds the settings of a run that goes on: its own, and given ones that do not matter.

    Args:
        cls: Of the settings.
        folder: Of the run.
        given: Settings besides.
        anew: Those of the run that are left open again.
        safe_to_change: What a given setting's name may begin with.

    Raises:
        CheckpointError: If it is no run folder.
        ConfigError: If a given setting would change the result, or names another folder.
    """
    saved = folder / "config.yaml"
    if not saved.is_file():
        raise CheckpointError(
            f"{folder} is no run folder (it has no config.yaml), so it cannot be resumed. "
            "To start a new run from weights, use --init."
        )
    if "out" in given and Path(str(given["out"].value)).resolve() != folder.resolve():
        raise ConfigError(
            f"--resume goes on in {folder}; it cannot write to {given['out'].value}. Leave --out "
            f"away, or start a new run with --init {folder}."
        )
    behind = read_yaml(saved, cls) | {name: Given(None, "--resume") for name in anew}
    old = build(cls, behind)
    new = build(cls, {**behind, **given, "out": Given(str(folder), "--resume")})
    differing = {
        name: values
        for name, values in changed(old, new).items()
        if not name.startswith(safe_to_change)
    }
    if differing:
        listed = "\n".join(
            f"  {name}: {to_plain_text(before)} → {to_plain_text(after)}"
            for name, (before, after) in differing.items()
        )
        raise ConfigError(
            f"{folder} cannot go on with settings that change its result; leave them as they "
            f"were, or start a new run from its weights with --init {folder}:\n{listed}"
        )
    return new
