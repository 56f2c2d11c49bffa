"""The four pictures of a reconstruction: target, masked, reconstructed, visible parts pasted."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from maekit.data.transforms import Normalise
from maekit.masking import Mask
from maekit.models.mae import MaskedAutoencoder
from maekit.patches import patchify, unpatchify
from maekit.targets import TARGETS

TRUE_STATISTICS_NOTE = (
    "The network predicts patches less their mean over their deviation: every predicted patch "
    "is drawn "
    "with the true mean and deviation of the hidden one."
)


class Reconstruction(NamedTuple):
    """What a network makes of images it sees a part of."""

    panels: dict[str, Float[Tensor, "b c height width"]]
    """Title → images in unit scale, for `draw_panels`; hidden patches of `Masked` are NaN."""
    loss: float
    """Mean loss on the hidden patches."""


@torch.no_grad()
def reconstruct(
    mae: MaskedAutoencoder,
    normalise: Normalise,
    images: Float[Tensor, "b c height width"],
    mask: Mask,
) -> Reconstruction:
    """Rebuilds images and lays the results out for `draw_panels`, on the CPU.

    Args:
        mae: Left in the mode it is in, which must be eval.
        normalise: Of the network's preprocessing.
        images: In unit scale.
        mask: Which patches to hide.
    """
    grid = mae.encoder.config.grid
    normalised = normalise(images)
    patches = patchify(normalised, grid.patch_size)
    output = mae(normalised, mask)
    drawn = TARGETS[mae.config.target].decode(output.prediction.float(), patches)
    masked = rearrange(mask.masked, "b n -> b n 1")
    panels = {
        "Target": patches,
        "Masked": patches.masked_fill(masked, math.nan),
        "Reconstructed": drawn,
        "With visible patches": torch.where(masked, drawn, patches),
    }
    shown = {
        name: normalise.inverse(unpatchify(panel, grid)).cpu() for name, panel in panels.items()
    }
    return Reconstruction(shown, float(output.loss))


def note_for(target: str) -> str:
    """Returns what a reader of such pictures must know."""
    return TRUE_STATISTICS_NOTE if TARGETS[target].uses_true_statistics else ""
