"""Draws what a pre-trained network rebuilds of pictures it sees a part of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
from maekit.data.listing import check_outside, pictures_of
from maekit.data.scan_pool import Progress
from maekit.data.survey import Skip
from maekit.data.transforms import Preprocessor, to_unit
from maekit.errors import ConfigError, DataError, DecodeError
from maekit.masking import MaskingConfig, given_mask, num_visible, random_mask
from maekit.patches import Grid
from maekit.pretraining.reconstruction import note_for
from maekit.pretraining.reconstruction import reconstruct as rebuild
from maekit.report.figures import draw_panels
from maekit.report.progress import counting

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
    """Pictures, lists of them (.txt, .csv) or folders."""
    most: int = 48
    """Pictures that are taken of each folder or list, evenly spread."""
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
    mask_file = None if config.mask is None else read_mask(config.mask, grid)
    generator = torch.Generator().manual_seed(config.seed)
    figures: list[str] = []
    losses: list[float] = []
    skipped: list[Skip] = []
    paths, named = pictures_of(config.images, config.most)
    number = _last_number(config.out)
    with counting("Rebuilding") as progress:
        for views in _read(paths, named, preprocess, skipped, progress):
            noise = torch.rand(len(views), grid.num_patches, generator=generator)
            mask = random_mask(noise, ratio)
            if mask_file is not None:
                mask = given_mask(mask_file.expand(len(views), -1))
            panels, loss = rebuild(mae, preprocess.normalise, views, mask)
            losses += [loss] * len(views)
            number += 1
            figure = config.out / f"{_NAME}{number:03d}.png"
            share = float(mask.masked.float().mean())
            draw_panels(
                figure, panels, f"{share:.0%} of the patches hidden", note_for(mae.config.target)
            )
            figures.append(str(figure))
    if not losses:
        raise DataError(f"None of the {len(skipped)} pictures can be read. {skipped[0].reason}")
    logger.info("%d pictures in %d figures in %s.", len(losses), len(figures), config.out)
    return ReconstructResult(figures=figures, loss=sum(losses) / len(losses), skipped=skipped)


def _last_number(out: Path) -> int:
    """Returns the greatest number of an earlier figure: new ones never replace them."""
    found = [path.stem.removeprefix(_NAME) for path in out.glob(f"{_NAME}*.png")]
    return max((int(number) for number in found if number.isdigit()), default=0)


def _read(
    paths: list[Path],
    named: set[Path],
    preprocess: Preprocessor,
    skipped: list[Skip],
    progress: Progress,
) -> Iterator[Float[Tensor, "b c height width"]]:
    """Yields the rows of one figure after another; only a picture that was named stops it."""
    views: list[Tensor] = []
    for done, path in enumerate(paths, start=1):
        try:
            views.append(preprocess.view(path))
        except DecodeError as error:
            if path in named:
                raise DataError(f"{path}: {error}.") from error
            skipped.append(Skip(str(path), f"{path}: {error}."))
            logger.warning("Left out: %s: %s", path, error)
        if len(views) == _ROWS_PER_FIGURE or (views and done == len(paths)):
            yield torch.stack(views)
            views = []
        progress(done, len(paths))


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
    grey = Image.fromarray(to_unit(torch.tensor(pixels[:, :, 0])).numpy())
    small = grey.resize((grid.width, grid.height), Image.Resampling.BOX)
    masked = torch.from_numpy(np.asarray(small) >= 0.5).reshape(1, -1)
    if not 0 < int(masked.sum()) < grid.num_patches:
        raise ConfigError(
            f"{path} hides {int(masked.sum())} of {grid.num_patches} patches; at least one must "
            "be hidden and one visible."
        )
    return masked


TASK = Task(ReconstructConfig, run, ("checkpoint", "images"))
