"""Names the class of every picture of a folder, with its probability."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maekit.checkpoint import load_classifier
from maekit.config import Task, build, given_python
from maekit.data.listing import check_outside, pictures_of
from maekit.data.loader import start_worker
from maekit.data.transforms import Preprocessor
from maekit.errors import DecodeError
from maekit.models.classifier import probabilities
from maekit.report.progress import counting
from maekit.runtime import RuntimeConfig, choose_device, num_cores
from maekit.tables import check_table, write_table

logger = logging.getLogger(__name__)
_BATCH = 64
_COLUMNS = ("path", "class", "probability", "reason")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Classifies pictures with a fine-tuned checkpoint."""

    checkpoint: Path
    """Checkpoint or run folder of a fine-tuning; of a folder, the checkpoint that was chosen."""
    images: tuple[Path, ...]
    """Pictures, lists of them (.txt, .csv) or folders."""
    out: Path = Path("predictions.csv")
    """Table to write, .csv or .parquet, a row a picture in the order given: path, class,
    probability, reason."""
    num_workers: int | None = None
    """Processes that decode pictures; chosen from the cores if not given."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


class Prediction(NamedTuple):
    """What is said of one picture."""

    path: str
    label: str | None
    """Most probable class; None where the picture cannot be read."""
    probability: float | None
    """Of that class, in [0, 1]."""
    reason: str
    """Why it cannot be read; empty where it can."""


def predict(config: PredictConfig | None = None, /, **given: object) -> list[Prediction]:
    """Classifies pictures.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `checkpoint="runs/f", images=["new"]`.

    Raises:
        MaekitError: If the checkpoint holds no classifier, or there is no picture.
    """
    return run(config or build(PredictConfig, given_python(given, PredictConfig)))


class _Reading(NamedTuple):
    image: Tensor | None
    reason: str


class _Readings(Dataset[_Reading]):
    """Pictures ready for the encoder, or why they are not."""

    def __init__(self, paths: list[Path], preprocess: Preprocessor) -> None:
        self.paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Reading:
        """Reads one picture; a broken one has its reason."""
        try:
            view = self.preprocess.view(self.paths[index])
            return _Reading(self.preprocess.normalise(view[None])[0], "")
        except DecodeError as error:
            return _Reading(None, str(error))


def _as_list(readings: list[_Reading]) -> list[_Reading]:
    return readings


@torch.no_grad()
def run(config: PredictConfig) -> list[Prediction]:
    """Classifies, writes the table, and says how fast."""
    for place in config.images:
        check_outside(config.out, place)
    check_table(config.out)
    recogniser = load_classifier(config.checkpoint)
    device = torch.device(choose_device(config.runtime))
    model = recogniser.model.to(device)
    paths, _ = pictures_of(config.images)
    workers = num_cores() - 1 if config.num_workers is None else config.num_workers
    loader = DataLoader(
        _Readings(paths, recogniser.preprocess),
        batch_size=_BATCH,
        num_workers=workers,
        collate_fn=_as_list,
        worker_init_fn=start_worker,
    )
    rows: list[Prediction] = []
    started = time.monotonic()
    with counting("Classifying") as progress:
        for readings in loader:
            images = [reading.image for reading in readings if reading.image is not None]
            guessed = iter(torch.empty(0))
            if images:
                guessed = iter(probabilities(model(torch.stack(images).to(device))).cpu())
            for reading in readings:
                path = str(paths[len(rows)])
                if reading.image is None:
                    rows.append(Prediction(path, None, None, reading.reason))
                    continue
                probability, label = next(guessed).max(dim=0)
                rows.append(
                    Prediction(path, recogniser.classes[int(label)], float(probability), "")
                )
            progress(len(rows), len(paths))
    seconds = time.monotonic() - started
    _write(config.out, rows)
    broken = sum(row.label is None for row in rows)
    logger.info(
        "%d pictures in %s, %.0f a second%s.", len(rows), config.out, len(rows) / seconds,
        f"; {broken} could not be read and have a reason instead" if broken else "",
    )  # fmt: skip
    return rows


def _write(path: Path, rows: list[Prediction]) -> None:
    write_table(path, dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)))


TASK = Task(PredictConfig, run, ("checkpoint", "images"))
