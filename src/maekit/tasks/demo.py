"""Runs the main job on photographs that come with scikit-image: some minutes."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from maekit.config import Task
from maekit.errors import ConfigError
from maekit.probing.result import ProbeResult
from maekit.tasks.pretrain import pretrain
from maekit.tasks.probe import probe

logger = logging.getLogger(__name__)

_TILE = 64
# Tiles of the left part train, tiles of the right part test; none lies across.
_TRAIN_SHARE = 0.7
_TRAIN_STRIDE, _TEST_STRIDE = 24, 32
_MOST_TRAIN, _MOST_TEST = 260, 40


class _Photograph(NamedTuple):
    package: str
    file: str
    credit: str


PHOTOGRAPHS = {
    "astronaut": _Photograph("skimage", "data/astronaut.png", "NASA, public domain"),
    "brick": _Photograph("skimage", "data/brick.png", "CC0Textures, CC0"),
    "camera": _Photograph("skimage", "data/camera.png", "Lav Varshney, CC0"),
    "cat": _Photograph("skimage", "data/chelsea.png", "Stefan van der Walt, CC0"),
    "coffee": _Photograph("skimage", "data/coffee.png", "Rachel Michetti, CC0"),
    "coins": _Photograph("skimage", "data/coins.png", "Brooklyn Museum, no known restrictions"),
    "grass": _Photograph("skimage", "data/grass.png", "linolafett, CC0"),
    "gravel": _Photograph("skimage", "data/gravel.png", "CC0Textures, CC0"),
    "hubble": _Photograph("skimage", "data/hubble_deep_field.jpg", "NASA, public domain"),
    "moon": _Photograph("skimage", "data/moon.png", "NASA, public domain"),
    "retina": _Photograph("skimage", "data/retina.jpg", "Mikael Häggström, CC0"),
    "rocket": _Photograph("skimage", "data/rocket.jpg", "SpaceX, public domain"),
    "china": _Photograph("sklearn", "datasets/images/china.jpg", "danielbuechele, CC BY 2.0"),
    "flower": _Photograph("sklearn", "datasets/images/flower.jpg", "vultilion, CC BY 2.0"),
}


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Pre-trains on tiles of bundled photographs and measures what it brought."""

    epochs: int = 14
    """Length of the pre-training."""
    out: Path | None = None
    """Folder for tiles and run; runs/demo-DATE-TIME if not given."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Where things are, and what the encoder is worth."""

    run: str
    """Folder of the pre-training run."""
    tiles: str
    """Folder of the pictures."""
    probe: ProbeResult


def run(config: DemoConfig) -> DemoResult:
    """Cuts tiles, pre-trains, probes, and says how to go on."""
    out = config.out or Path("runs") / f"demo-{datetime.now():%Y-%m-%d-%H%M%S}"
    tiles = out / "tiles"
    if tiles.exists():
        raise ConfigError(f"{tiles} exists already; choose another folder with --out.")
    cut_tiles(tiles)
    trained = pretrain(
        dir=tiles / "train",
        out=out / "run",
        model={"size": "tiny", "depth": 6, "image_size": _TILE, "patch_size": 8},
        train={"epochs": config.epochs, "batch_size": 64},
        optim={"base_lr": 2e-3},
    )
    assert trained is not None
    measured = probe(checkpoint=out / "run", dir=tiles, methods=("knn", "linear"))
    logger.info(
        "Look at %s and %s.\n\nYour own pictures (any folder, nested or flat):\n"
        "  mae pretrain YOUR_FOLDER --plan     what would happen, and how long it takes\n"
        "  mae pretrain YOUR_FOLDER            trains; run folder under runs/\n"
        "  mae reconstruct RUN PICTURE …       what it rebuilds of any picture\n"
        "  mae probe RUN LABELLED_FOLDER       with train/CLASS/… and test/CLASS/… in it\n",
        out / "run" / "figures",
        out / "run" / "loss.png",
    )
    return DemoResult(run=str(out / "run"), tiles=str(tiles), probe=measured)


def cut_tiles(folder: Path) -> None:
    """Cuts the left of every photograph into `train/NAME`, its right into `test/NAME`."""
    logger.info("Photographs cut into tiles of %d px, the photograph is the class:", _TILE)
    for name, photograph in PHOTOGRAPHS.items():
        logger.info("  %-10s %s (%s)", name, photograph.credit, photograph.package)
        with Image.open(_installed(photograph)) as image:
            picture = image.convert("RGB")
        border = int(picture.width * _TRAIN_SHARE)
        left = picture.crop((0, 0, border, picture.height))
        right = picture.crop((border, 0, picture.width, picture.height))
        _cut(left, folder / "train" / name, _TRAIN_STRIDE, _MOST_TRAIN)
        _cut(right, folder / "test" / name, _TEST_STRIDE, _MOST_TEST)


def _installed(photograph: _Photograph) -> Path:
    package = importlib.util.find_spec(photograph.package)
    if package is None or package.origin is None:
        raise ConfigError(
            "The demo's photographs come with two packages: pip install 'maekit[demo]'."
        )
    return Path(package.origin).parent / photograph.file


def _cut(picture: Image.Image, folder: Path, stride: int, most: int) -> None:
    folder.mkdir(parents=True)
    corners = [
        (x, y)
        for y in range(0, picture.height - _TILE + 1, stride)
        for x in range(0, picture.width - _TILE + 1, stride)
    ]
    keep = min(most, len(corners))
    for number in range(keep):  # spread evenly where there are more than wanted
        x, y = corners[number * len(corners) // keep]
        picture.crop((x, y, x + _TILE, y + _TILE)).save(folder / f"x{x:04d}-y{y:04d}.png")


TASK = Task(DemoConfig, run)
