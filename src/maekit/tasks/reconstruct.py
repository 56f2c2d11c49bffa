"""Draws what a pre-trained network rebuilds of pictures it sees a part of."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from maekit import checkpoint
from maekit.config import Task, build, given_python
from maekit.data.decode import decode
from maekit.data.listing import list_pictures
from maekit.data.sources import check_outside
from maekit.data.survey import Skip
from maekit.data.transforms import Preprocessor
from maekit.errors import ConfigError, DataError, DecodeError
from maekit.masking import Mask, MaskingConfig, given_mask, num_visible, random_mask
from maekit.patches import Grid
from maekit.pretraining.reconstruction import note_for
from maekit.pretraining.reconstruction import reconstruct as rebuild
from maekit.report.figures import draw_panels

logger = logging.getLogger(__name__)
# More rows make a figure that no screen shows.
_ROWS_PER_FIGURE = 8
_NAME = "reconstruction-"


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """Hides patches of pictures and draws what the network makes of the rest."""

    checkpoint: Path
    """Checkpoint or run folder, with a decoder."""
    images: tuple[Path, ...]
    """Pictures, or folders of them."""
    mask_ratio: float | None = None
    """Share of patches to hide, in (0, 1); that of the training if not given."""
    mask: Path | None = None
    """Black-and-white picture of what to hide (white), instead of a random mask."""
    seed: int = 0
    """Fixes the random masks."""
    out: Path = Path("reconstructions")
    """Folder for the figures."""


@dataclass(frozen=True, kw_only=True)
class ReconstructResult:
    """What was drawn."""

    figures: list[str]
    loss: float
    """Mean loss on the hidden patches."""
    skipped: list[Skip]
    """Pictures of folders that cannot be read, and why."""


def reconstruct(config: ReconstructConfig | None = None, /, **given: object) -> ReconstructResult:
    """Draws reconstructions.

    Args:
        config: All settings, or none.
        given: Settings by name instead, e.g. `checkpoint="runs/a", images=["cat.jpg"]`.

    Raises:
        MaekitError: If the checkpoint has no decoder, or a picture cannot be read.
    """
    return run(config or build(ReconstructConfig, given_python(given, ReconstructConfig)))


def run(config: ReconstructConfig) -> ReconstructResult:
    """Draws figures of up to eight pictures each."""
    for place in config.images:
        check_outside(config.out, place)
    path = checkpoint.find(config.checkpoint)
    state = checkpoint.load(path)
    mae = checkpoint.build_mae(state, path)
    preprocess, grid = Preprocessor(checkpoint.preprocessing_of(state)), mae.encoder.config.grid
    trained_with = float(state["config"]["masking"]["mask_ratio"])
    ratio = trained_with if config.mask_ratio is None else config.mask_ratio
    MaskingConfig(mask_ratio=ratio)
    num_visible(grid.num_patches, ratio)
    images, skipped = _read_all(config.images, preprocess)
    noise = torch.rand(
        len(images), grid.num_patches, generator=torch.Generator().manual_seed(config.seed)
    )
    mask = random_mask(noise, ratio)
    if config.mask is not None:
        masked = read_mask(config.mask, grid)
        mask = given_mask(masked.expand(len(images), -1))
    share = float(mask.masked.float().mean())
    figures, losses = [], []
    first = _last_number(config.out) + 1
    for start in range(0, len(images), _ROWS_PER_FIGURE):
        rows = slice(start, start + _ROWS_PER_FIGURE)
        part = Mask(mask.visible[rows], mask.masked[rows])
        panels, loss = rebuild(mae, preprocess.normalise, images[rows], part)
        losses.append(loss * len(part.masked))
        figure = config.out / f"{_NAME}{first + start // _ROWS_PER_FIGURE:03d}.png"
        draw_panels(
            figure, panels, f"{share:.0%} of the patches hidden", note_for(mae.config.target)
        )
        figures.append(str(figure))
        logger.info("%s", figure)
    return ReconstructResult(figures=figures, loss=sum(losses) / len(images), skipped=skipped)


def _last_number(out: Path) -> int:
    """Returns the greatest number of an earlier figure: new ones never replace them."""
    found = [path.stem.removeprefix(_NAME) for path in out.glob(f"{_NAME}*.png")]
    return max((int(number) for number in found if number.isdigit()), default=0)


def _read_all(
    places: tuple[Path, ...], preprocess: Preprocessor
) -> tuple[Float[Tensor, "b c height width"], list[Skip]]:
    """Reads pictures and folders of them; a broken picture stops it only if it was named itself."""
    views: list[Tensor] = []
    skipped: list[Skip] = []
    for place in places:
        if not place.is_dir():
            views.append(_read(place, preprocess))
            continue
        listing = list_pictures(place)
        for name in listing.paths:
            try:
                views.append(_read(listing.root / name, preprocess))
            except DataError as error:
                skipped.append(Skip(str(listing.root / name), str(error)))
                logger.warning("Left out: %s", error)
    if not views:
        raise DataError(
            "No picture can be read; give some with mae reconstruct CHECKPOINT IMAGE…"
            if not skipped
            else f"None of the {len(skipped)} pictures can be read. {skipped[0].reason}"
        )
    return torch.cat(views), skipped


def _read(path: Path, preprocess: Preprocessor) -> Float[Tensor, "1 c height width"]:
    try:
        return preprocess.views(path)
    except DecodeError as error:
        raise DataError(f"{path}: {error}.") from error


def read_mask(path: Path, grid: Grid) -> Bool[Tensor, "1 n"]:
    """Reads a picture of what to hide: white hides, black shows; scaled to the patch grid.

    Raises:
        DataError: If it cannot be read.
        ConfigError: If it hides nothing or everything.
    """
    try:
        pixels = decode(path, Preprocessor.MAX_PIXELS)
    except DecodeError as error:
        raise DataError(f"{path}: {error}.") from error
    grey = Image.fromarray(pixels[:, :, 0]).resize((grid.width, grid.height), Image.Resampling.BOX)
    masked = torch.from_numpy(np.asarray(grey) >= 128).reshape(1, -1)
    if not 0 < int(masked.sum()) < grid.num_patches:
        raise ConfigError(
            f"{path} hides {int(masked.sum())} of {grid.num_patches} patches; at least one must "
            "be hidden and one visible."
        )
    return masked


TASK = Task(ReconstructConfig, run, ("checkpoint", "images"))
