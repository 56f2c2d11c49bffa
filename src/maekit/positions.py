"""Fixed sine-cosine position embeddings in one and two dimensions."""

from __future__ import annotations

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from maekit.errors import ConfigError
from maekit.patches import Grid


def sincos(positions: Float[Tensor, " n"], dim: int) -> Float[Tensor, "n d"]:
    """Encodes each position by the sines, then the cosines, of dim/2 frequencies.

    Args:
        positions: In patches, float64.
        dim: Width of the result; even.

    Source: Vaswani et al. 2017, section 3.5, with all sines before all cosines.
    """
    exponents = torch.arange(dim // 2, dtype=torch.float64) / (dim / 2.0)
    angles = positions[:, None] * (10000.0**-exponents)[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(grid: Grid, dim: int) -> Float[Tensor, "n d"]:
    """Positions on a grid: half of the width encodes the column, the other half the row.

    Computed in float64 and rounded once, as in the reference implementation.

    Raises:
        ConfigError: If `dim` is not a multiple of 4.

    Source: He et al. 2022, appendix A.1.

    >>> sincos_2d(Grid(2, 3, 16), dim=8).shape
    torch.Size([6, 8])
    """
    if dim % 4:
        raise ConfigError(f"2-D sine-cosine positions need a width divisible by 4, got {dim}.")
    columns = repeat(torch.arange(grid.width, dtype=torch.float64), "w -> (h w)", h=grid.height)
    rows = repeat(torch.arange(grid.height, dtype=torch.float64), "h -> (h w)", w=grid.width)
    return torch.cat([sincos(columns, dim // 2), sincos(rows, dim // 2)], dim=1).float()


def sincos_1d(grid: Grid, dim: int) -> Float[Tensor, "n d"]:
    """Positions that number the patches in reading order and ignore the grid.

    Raises:
        ConfigError: If `dim` is odd.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", appendix D.4 (ablation).
    """
    if dim % 2:
        raise ConfigError(f"1-D sine-cosine positions need an even width, got {dim}.")
    return sincos(torch.arange(grid.num_patches, dtype=torch.float64), dim).float()
