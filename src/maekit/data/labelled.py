"""Labelled pictures in three parts: for training, for choosing, and for the test."""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from maekit.data.listing import read_text
from maekit.data.loader import DataConfig
from maekit.data.opening import Counting, survey
from maekit.data.sources import Joined, Source, Subset
from maekit.data.survey import Survey
from maekit.errors import ConfigError, DataError
from maekit.runtime import mix

logger = logging.getLogger(__name__)

# Tells the split from the other uses of the seed.
_SPLIT = 6
_TRAIN, _VAL, _TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Which labelled pictures, and how they are divided."""

    dir: Path
    """Folder with train/CLASS/… and test/CLASS/… (or val/CLASS/…), folder of CLASS/…, or csv
    with the columns path, label and, if you like, split (train, val or test)."""
    test_ratio: float = 0.2
    """Share of each class that becomes the test, in (0, 1), where no test part is given."""
    val_ratio: float = 0.15
    """Share of each class of the training part on which models are chosen, in (0, 1), where no
    such part is given; never fewer than one picture a class."""
    labels_per_class: int | None = None
    """Labelled pictures of each class to use for training and choosing; all if not given."""
    max_pixels: int = 100_000_000
    """Pictures with more pixels than this are skipped."""
    max_skipped: float = 0.05
    """Share of unusable pictures beyond which a run stops; ten may always be unusable."""
    num_workers: int | None = None
    """Processes that decode pictures; chosen from the cores if not given."""

    def __post_init__(self) -> None:
        for name in ("test_ratio", "val_ratio"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}.")
        if self.labels_per_class is not None and self.labels_per_class < 2:
            raise ConfigError(
                f"labels_per_class must be at least 2, one to learn from and one to choose by; "
                f"got {self.labels_per_class}."
            )


@dataclass(frozen=True)
class Labelled:
    """Pictures with their classes."""

    source: Source
    labels: NDArray[np.int64]
    """Index into the classes, one a picture."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        """Returns some of the pictures, in the order given."""
        return Labelled(Subset(self.source, rows), self.labels[rows])

    def join(self, other: Labelled) -> Labelled:
        """Returns these pictures, then the others."""
        return Labelled(
            Joined(self.source, other.source), np.concatenate([self.labels, other.labels])
        )


class LabelledData(NamedTuple):
    """Everything labelled, its classes, and what was found on the way."""

    classes: list[str]
    """In order of their names; a label is a place in this list."""
    train: Labelled
    val: Labelled
    """Held out from training to choose by; never the test."""
    test: Labelled
    surveys: list[Survey]
    notes: list[str]
    """How it was divided and what was left out, in words."""
    leaked: int
    """Test pictures that are equal, byte for byte, to one used for training or choosing."""

    def warn(self, see: str) -> None:
        """Says what was left out and how it was divided.

        Args:
            see: Where the pictures that were left out are named.
        """
        skipped = sum(len(found.reasons) for found in self.surveys)
        if skipped:
            logger.warning("%d pictures cannot be used; see %s.", skipped, see)
        for note in self.notes:
            logger.warning("Note: %s.", note)


class _Part(NamedTuple):
    source: Source
    names: list[str]
    """Class of each picture."""
    digests: NDArray[np.uint64]


def load_labelled(
    config: LabelConfig,
    channels: int,
    seed: int,
    show: Counting,
) -> LabelledData:
    """Finds, scans and divides labelled pictures.

    Args:
        config: Which.
        channels: Of the encoder; pictures that cannot be given them are skipped.
        seed: Fixes every division.
        show: Shows the scan's progress.

    Raises:
        DataError: If there are no classes, only one, or one in the test that training lacks.
    """
    parts, surveys, notes = _parts(config, channels, show)
    everything = parts.pop("all", None)
    classes = sorted(set((everything or parts["train"]).names))
    if len(classes) < 2:
        raise DataError(
            f"{config.dir} holds one class only ({', '.join(classes)}); a classifier needs two."
        )
    if everything is not None:
        whole, digests = _label(everything, classes, "all", config), everything.digests
        rest, test_rows = _stratified(whole.labels, config.test_ratio, mix(seed, _SPLIT, 1))
        train, test = whole.take(rest), whole.take(test_rows)
        train_digests, test_digests = digests[rest], digests[test_rows]
        notes.append(
            f"no test part is given: {config.test_ratio:.0%} of each class became the test"
        )
    else:
        train = _label(parts["train"], classes, "train", config)
        test = _label(parts["test"], classes, "test", config)
        train_digests, test_digests = parts["train"].digests, parts["test"].digests
    if config.labels_per_class is not None:
        few = _few(train.labels, config.labels_per_class, seed)
        train, train_digests = train.take(few), train_digests[few]
    if "val" in parts:
        val = _label(parts["val"], classes, "val", config)
        train_digests = np.concatenate([train_digests, parts["val"].digests])
    else:
        fit, held = _stratified(train.labels, config.val_ratio, mix(seed, _SPLIT, 2))
        train, val = train.take(fit), train.take(held)
        notes.append(f"{len(held)} of the training pictures are held out to choose by")
    absent = sorted(set(classes) - {classes[label] for label in test.labels.tolist()})
    if absent:
        notes.append(f"no test picture of {', '.join(absent)}")
    leaked = int(np.isin(test_digests, train_digests).sum())
    if leaked:
        notes.append(
            f"{leaked} test pictures are also among those for training: the result is too good"
        )
    return LabelledData(classes, train, val, test, surveys, notes, leaked)


def _parts(
    config: LabelConfig, channels: int, show: Counting
) -> tuple[dict[str, _Part], list[Survey], list[str]]:
    """Scans what there is: parts by name (`train`, `val`, `test`, or `all`), and notes."""
    if not config.dir.is_dir():
        if config.dir.suffix.lower() != ".csv":
            raise DataError(f"{config.dir} is neither a folder nor a csv of path,label.")
        return _csv_parts(config, channels, show)
    folders = {
        part: next((config.dir / name for name in names if (config.dir / name).is_dir()), None)
        for part, names in (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
    }
    notes: list[str] = []
    if folders["train"] is None:
        folders = {"all": config.dir}
    elif folders["test"] is None:
        if folders["val"] is None:
            raise DataError(
                f"{config.dir} has train/ but neither test/ nor val/; add one, or name "
                f"{folders['train']} to have it divided."
            )
        folders["test"], folders["val"] = folders["val"], None
        notes.append(f"{folders['test'].name}/ is the test" if folders["test"] else "")
    parts: dict[str, _Part] = {}
    surveys = []
    for part, folder in folders.items():
        if folder is None:
            continue
        found, source, digests = _scan(folder, config, channels, show)
        surveys.append(found)
        labels = labels_of_folders(folder, source)
        empty = sorted(_class_folders(folder) - set(labels))
        if empty:
            notes.append(f"no usable picture in {part}: {', '.join(empty)}")
        parts[part] = _Part(source, labels, digests)
    return parts, surveys, notes


def _class_folders(folder: Path) -> set[str]:
    return {
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
    }


def labels_of_folders(folder: Path, source: Source) -> list[str]:
    """Returns the class of each picture: the name of its folder just below `folder`.

    Raises:
        DataError: If one lies in no such folder.
    """
    names = [Path(source.name(row)) for row in range(len(source))]
    for name in names:
        if len(name.parts) < 2:
            raise DataError(f"{folder} must hold one folder a class; {name} lies in none.")
    return [name.parts[0] for name in names]


def _scan(
    place: Path, config: LabelConfig, channels: int, show: Counting
) -> tuple[Survey, Source, NDArray[np.uint64]]:
    """Scans a folder or csv; returns the usable pictures and their contents' digests too."""
    reading = DataConfig(dir=place, max_pixels=config.max_pixels, max_skipped=config.max_skipped)
    found, source = survey(reading, show, channels)
    return found, source, found.of_usable("digest")


def _csv_parts(
    config: LabelConfig, channels: int, show: Counting
) -> tuple[dict[str, _Part], list[Survey], list[str]]:
    rows = list(csv.DictReader(read_text(config.dir).splitlines()))
    if not rows or not {"path", "label"} <= rows[0].keys():
        raise DataError(f"{config.dir} needs the columns path and label, and a line at least.")
    found, source, digests = _scan(config.dir, config, channels, show)
    by_path = {row["path"]: row for row in reversed(rows)}  # of two lines for a file, the first
    kept = [by_path[source.name(number)] for number in range(len(source))]
    labels = [row["label"].strip() for row in kept]
    given = [(row.get("split") or "").strip().lower() for row in kept]
    if not any(given):
        return {"all": _Part(source, labels, digests)}, [found], []
    known = {
        name: part
        for part, names in (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
        for name in names
    }
    odd = sorted({name for name in given if name not in known})
    if odd:
        raise DataError(
            f"{config.dir}: split must be train, val or test in every line, got {odd[0]!r}."
        )
    parts = {}
    for part in ("train", "val", "test"):
        chosen = np.array(
            [i for i, name in enumerate(given) if known[name] == part], dtype=np.int64
        )
        if len(chosen):
            parts[part] = _Part(
                Subset(source, chosen), [labels[i] for i in chosen], digests[chosen]
            )
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    for part in ("train", "test"):
        if part not in parts:
            raise DataError(f"{config.dir} has no line whose split is {part}.")
    return parts, [found], []


def _label(part: _Part, classes: list[str], name: str, config: LabelConfig) -> Labelled:
    """Numbers the classes by name.

    Raises:
        DataError: If there is one that the classifier does not have.
    """
    unknown = sorted(set(part.names) - set(classes))
    if unknown:
        raise DataError(
            f"The {name} part of {config.dir} has classes that training lacks: "
            f"{', '.join(unknown)}; take them out, or add pictures of them to training."
        )
    numbers = {label: number for number, label in enumerate(classes)}
    return Labelled(part.source, np.array([numbers[label] for label in part.names], dtype=np.int64))


def _shuffled(labels: NDArray[np.int64], seed: int) -> dict[int, NDArray[np.int64]]:
    """Class → its rows in an order that the seed fixes."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).numpy()
    return {int(label): order[labels[order] == label] for label in np.unique(labels)}


def _stratified(
    labels: NDArray[np.int64], ratio: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides rows class by class into (the rest, a share); one picture of a class stays."""
    rest, share = [], []
    for rows in _shuffled(labels, seed).values():
        number = min(max(1, round(ratio * len(rows))), len(rows) - 1)
        share.append(rows[:number])
        rest.append(rows[number:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(share))


def _few(labels: NDArray[np.int64], number: int, seed: int) -> NDArray[np.int64]:
    rows = [rows[:number] for rows in _shuffled(labels, mix(seed, _SPLIT, 3)).values()]
    return np.sort(np.concatenate(rows))
