"""Images to patches and back.

Axis names, used in every signature of the package: `b` batch, `c` channels, `h w` the patch grid,
`n = h * w` patches, `k` visible patches, `p` the side of a patch in pixels, `d` embedding width,
`t` width of what the decoder predicts for one patch, `ppc = p * p * c`.
"""

from __future__ import annotations

from typing import NamedTuple

from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor

from maekit.errors import ConfigError


class Grid(NamedTuple):
    """How an image falls into patches."""

    height: int
    """Rows of patches."""
    width: int
    """Columns of patches."""
    patch_size: int
    """Side of a patch, in pixels."""

    @property
    def num_patches(self) -> int:
        """Patches in one image."""
        return self.height * self.width

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.height * self.patch_size, self.width * self.patch_size

    @classmethod
    def of(cls, image_size: tuple[int, int], patch_size: int) -> Grid:
        """Builds the grid of an image.

        Raises:
            ConfigError: If a side is not a positive multiple of `patch_size`.

        >>> Grid.of((32, 48), patch_size=16)
        Grid(height=2, width=3, patch_size=16)
        """
        height, width = image_size
        for name, side in (("height", height), ("width", width)):
            if side <= 0 or side % patch_size:
                near = max(patch_size, round(side / patch_size) * patch_size)
                raise ConfigError(
                    f"The image {name} of {side} px is not a multiple of the patch size of "
                    f"{patch_size} px; use {near} px, or a patch size that divides {side}."
                )
        return cls(height // patch_size, width // patch_size, patch_size)


def patchify(
    images: Shaped[Tensor, "b c height width"], patch_size: int
) -> Shaped[Tensor, "b n ppc"]:
    """Cuts images into non-overlapping square patches, row by row.

    Within a patch the order is row, column, channel, as in the reference implementation, so
    that weights of a decoder trained there predict in this order.

    Args:
        images: Any dtype; both sides must be multiples of `patch_size`.
        patch_size: Side of a patch, in pixels.

    Returns:
        Patches with `ppc = patch_size**2 * c` values each.

    Raises:
        ConfigError: If a side is not a multiple of `patch_size`.

    Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3.

    >>> import torch
    >>> patchify(torch.arange(16).reshape(1, 1, 4, 4), patch_size=2)[0, 0].tolist()
    [0, 1, 4, 5]
    """
    grid = Grid.of((images.shape[-2], images.shape[-1]), patch_size)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", h=grid.height, w=grid.width)


def unpatchify(
    patches: Shaped[Tensor, "b n ppc"], grid: Grid
) -> Shaped[Tensor, "b c height width"]:
    """Puts patches back into images: the inverse of `patchify`.

    Raises:
        ValueError: If the number of patches is not that of `grid`.

    >>> import torch
    >>> images = torch.rand(2, 3, 8, 12)
    >>> torch.equal(unpatchify(patchify(images, 4), Grid.of((8, 12), 4)), images)
    True
    """
    if patches.shape[1] != grid.num_patches:
        raise ValueError(f"{patches.shape[1]} patches do not fill a grid of {grid.num_patches}.")
    p = grid.patch_size
    return rearrange(
        patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=grid.height, w=grid.width, p1=p, p2=p
    )
