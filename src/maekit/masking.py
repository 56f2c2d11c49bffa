"""Which patches the encoder sees. One polarity everywhere: `masked` True means hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from maekit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """How patches are hidden during pre-training."""

    mask_ratio: float = 0.75
    """Share of patches hidden, in (0, 1). The paper's best is 0.75 (section 4.1, Fig. 5)."""

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_ratio < 1.0:
            raise ConfigError(
                f"mask_ratio must lie between 0 and 1 (neither of them), got {self.mask_ratio}."
            )


class Mask(NamedTuple):
    """Which patches of each image are visible, in two forms that always agree."""

    visible: Int[Tensor, "b k"]
    """Indices of the visible patches, in the order in which the encoder receives them."""
    masked: Bool[Tensor, "b n"]
    """True where a patch is hidden from the encoder."""


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Returns how many patches stay visible: `int(n * (1 - ratio))`, as in the reference.

    Raises:
        ConfigError: If nothing would stay visible, or nothing would be hidden.

    >>> num_visible(196, 0.75)
    49
    """
    # Rounded at the ninth decimal first: 100 patches at 0.9 are 10 visible ones, not the 9 that
    # 99.99999999999997 truncates to. At 0.75 and 0.5 the values are those of the reference.
    count = int(round(num_patches * (1.0 - mask_ratio), 9))
    if not 0 < count < num_patches:
        raise ConfigError(
            f"mask_ratio {mask_ratio} leaves {count} of {num_patches} patches visible; there must "
            "be at least one visible and one hidden patch: change mask_ratio or patch_size."
        )
    return count


def random_mask(noise: Float[Tensor, "b n"], mask_ratio: float) -> Mask:
    """Hides the patches of highest noise: uniform random masking, an equal number an image.

    The noise is an argument, not drawn here, so that a mask depends on its sample alone and not
    on the batch, the process or the number of workers that it meets.

    Args:
        noise: One independent value a patch, e.g. uniform in [0, 1).
        mask_ratio: Share of patches to hide, in (0, 1).

    Source: He et al. 2022, section 3 and appendix A.1 ("shuffle" with argsort).

    >>> import torch
    >>> random_mask(torch.tensor([[0.3, 0.1, 0.9, 0.5]]), mask_ratio=0.5).visible.tolist()
    [[1, 0]]
    """
    count = num_visible(noise.shape[1], mask_ratio)
    visible = noise.argsort(dim=1)[:, :count]
    return Mask(visible, masked_from(visible, noise.shape[1]))


def given_mask(masked: Bool[Tensor, "b n"]) -> Mask:
    """Builds a `Mask` from a boolean one, True where hidden.

    Raises:
        ValueError: If the images differ in the number of hidden patches, or hide none or all.
    """
    counts = (~masked).sum(dim=1)
    if (counts != counts[0]).any():
        raise ValueError("Every image of a batch must hide the same number of patches.")
    if not 0 < int(counts[0]) < masked.shape[1]:
        raise ValueError("A mask must hide at least one patch and leave at least one visible.")
    # A stable sort of the booleans lists the visible patches first, in reading order.
    visible = masked.to(torch.uint8).argsort(dim=1, stable=True)[:, : int(counts[0])]
    return Mask(visible, masked)


def masked_from(visible: Int[Tensor, "b k"], num_patches: int) -> Bool[Tensor, "b n"]:
    """Turns indices of visible patches into a boolean mask, True where hidden."""
    masked = torch.ones(visible.shape[0], num_patches, dtype=torch.bool, device=visible.device)
    return masked.scatter(1, visible, False)


def take(tokens: Shaped[Tensor, "b n d"], indices: Int[Tensor, "b k"]) -> Shaped[Tensor, "b k d"]:
    """Picks tokens by index, image by image."""
    return tokens.gather(1, repeat(indices, "b k -> b k d", d=tokens.shape[-1]))
