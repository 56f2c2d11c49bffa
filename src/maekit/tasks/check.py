"""Scans a folder of pictures and says what is usable, what is not, and why."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from maekit.config import Task, build, given_python
from maekit.data.listing import check_outside, spread
from maekit.data.loader import DataConfig
from maekit.data.opening import survey
from maekit.data.sources import Source, Subset
from maekit.data.survey import Survey, write_skips
from maekit.data.transforms import EvalTransform, to_tensor, to_unit
from maekit.errors import ConfigError, DecodeError
from maekit.pretraining.describe import describe_data
from maekit.report.figures import draw_sheet
from maekit.report.progress import counting
from maekit.runtime import write_json

logger = logging.getLogger(__name__)
_SHEET = 48
_SPEED_SAMPLE = 64
_TRAIN, _TEST = {"train", "training"}, {"test", "testing", "val", "valid", "validation"}


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Scans pictures without training."""

    dir: Path
    """Folder, list (.txt, .csv) or array (.npy, .npz) of pictures."""
    array: str | None = None
    """Which array of a .npz file."""
    array_layout: Literal["nhwc", "nchw"] | None = None
    """Where the channels of an array stand; found in its shape if not given."""
    max_pixels: int = 100_000_000
    """Pictures with more pixels than this are skipped."""
    out: Path = Path("check")
    """Folder for summary.json, skipped.jsonl and the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What the scan found; summary.json holds the same."""

    num_listed: int
    num_usable: int
    num_skipped: int
    reasons: dict[str, int]
    """Reason → number of pictures, the most frequent first."""
    width: dict[str, float]
    """Least, median and greatest width, in pixels."""
    height: dict[str, float]
    modes: dict[str, int]
    channels: dict[int, int]
    """Channels → number of pictures."""
    bits: dict[int, int]
    """Bits of one value → number of pictures."""
    several_frames: int
    """Pictures with more frames than the first, which alone is used."""
    duplicates: list[list[str]]
    """Groups of files that are equal byte for byte."""
    leakage: list[list[str]]
    """Those groups that stand on both sides of a split into train and test (or val) folders."""
    decode_images_per_s: float
    """Speed of one process."""
    notes: list[str]


def check(config: CheckConfig | None = None, /, **given: object) -> CheckResult:
    """Scans pictures.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `dir="photos", out="check"`.

    Raises:
        MaekitError: If there is nothing to scan, or nowhere to write.
    """
    return run(config or build(CheckConfig, given_python(given, CheckConfig)))


def run(config: CheckConfig) -> CheckResult:
    """Scans, writes what was found, and says it."""
    check_outside(config.out, config.dir)
    if (config.out / "config.yaml").exists():
        raise ConfigError(f"{config.out} is the folder of a run; choose another with --out.")
    data = DataConfig(
        dir=config.dir,
        array=config.array,
        array_layout=config.array_layout,
        max_pixels=config.max_pixels,
        max_skipped=1.0,
    )
    found, source = survey(data, counting, "any")
    result = summarise(found, _decode_speed(source))
    write_json(config.out / "summary.json", asdict(result))
    write_skips(config.out / "skipped.jsonl", found.skips)
    draw_sheet(
        config.out / "contact_sheet.png",
        _sheet(source),
        f"{len(source):,} pictures of {found.place}",
    )
    for line in describe_data(found):
        logger.info("%s", line)
    for reason, count in result.reasons.items():
        logger.info("  %d × %s", count, reason)
    logger.info(
        "%d groups of equal files, %d of them across train and test; one process decodes %.0f "
        "images/s. See %s.",
        len(result.duplicates),
        len(result.leakage),
        result.decode_images_per_s,
        config.out,
    )
    return result


def summarise(found: Survey, decode_images_per_s: float) -> CheckResult:
    """Turns a scan's columns into a summary."""

    def spread(column: str) -> dict[str, float]:
        values = found.of_usable(column)
        return {
            "min": float(values.min()),
            "median": float(np.median(values)),
            "max": float(values.max()),
        }

    def counts(column: str) -> dict[int, int]:
        return dict(Counter(found.of_usable(column).tolist()).most_common())

    groups = [[found.names[row] for row in group] for group in found.duplicates()]
    return CheckResult(
        num_listed=len(found.names),
        num_usable=len(found.usable),
        num_skipped=len(found.reasons),
        reasons=dict(Counter(found.reasons.values()).most_common()),
        width=spread("width"),
        height=spread("height"),
        modes=found.modes,
        channels=counts("channels"),
        bits=counts("bits"),
        several_frames=int(found.of_usable("several_frames").sum()),
        duplicates=groups,
        leakage=[group for group in groups if _is_leak(group)],
        decode_images_per_s=decode_images_per_s,
        notes=list(found.notes),
    )


def _is_leak(group: list[str]) -> bool:
    tops = {Path(name).parts[0].lower() for name in group}
    return bool(tops & _TRAIN) and bool(tops & _TEST)


def _chosen(source: Source, number: int) -> Subset:
    """Returns pictures spread evenly over a source."""
    return Subset(source, spread(len(source), number))


def _decode_speed(source: Source) -> float:
    chosen = _chosen(source, _SPEED_SAMPLE)
    started, pictures = time.perf_counter(), 0
    for index in range(len(chosen)):
        try:
            chosen.read(index)
        except DecodeError:
            continue  # changed since the scan
        pictures += 1
    return round(pictures / (time.perf_counter() - started), 1)


def _sheet(source: Source) -> dict[str, torch.Tensor]:
    chosen, thumbnail = _chosen(source, _SHEET), EvalTransform((96, 96))
    shown: dict[str, torch.Tensor] = {}
    for index in range(len(chosen)):
        try:
            pixels = chosen.read(index)
            shown[chosen.name(index)] = to_unit(thumbnail(to_tensor(pixels, pixels.shape[2])))
        except DecodeError:
            continue  # changed since the scan
    return shown


TASK = Task(CheckConfig, run, ("dir",))
