"""What the decoder predicts for each patch, and how a prediction becomes pixels again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

# The reference adds this to a patch's variance: a constant patch stays finite.
_EPS = 1e-6


@dataclass(frozen=True)
class Target:
    """A pair of functions between patches of normalised pixels and what is predicted."""

    encode: Callable[[Float[Tensor, "b n ppc"]], Float[Tensor, "b n t"]]
    """Patches to target."""
    decode: Callable[[Float[Tensor, "b n t"], Float[Tensor, "b n ppc"]], Float[Tensor, "b n ppc"]]
    """Prediction and the true patches to patches of pixels."""
    uses_true_statistics: bool
    """Whether `decode` needs the true patches: a picture made with it must say so."""


def _encode_pixel(patches: Float[Tensor, "b n ppc"]) -> Float[Tensor, "b n ppc"]:
    return patches


def _decode_pixel(
    prediction: Float[Tensor, "b n ppc"], patches: Float[Tensor, "b n ppc"]
) -> Float[Tensor, "b n ppc"]:
    return prediction


def _encode_norm_pixel(patches: Float[Tensor, "b n ppc"]) -> Float[Tensor, "b n ppc"]:
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + _EPS).sqrt()


def _decode_norm_pixel(
    prediction: Float[Tensor, "b n ppc"], patches: Float[Tensor, "b n ppc"]
) -> Float[Tensor, "b n ppc"]:
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return prediction * (variance + _EPS).sqrt() + mean


TARGETS: dict[str, Target] = {
    # The pixels of the normalised image.
    "pixel": Target(_encode_pixel, _decode_pixel, uses_true_statistics=False),
    # Each patch less its mean, over its standard deviation (unbiased, all channels jointly):
    # He et al. 2022, section 3, "Reconstruction target".
    "norm_pixel": Target(_encode_norm_pixel, _decode_norm_pixel, uses_true_statistics=True),
}


class Baselines(NamedTuple):
    """Losses that need no network, in the units of the training loss."""

    mean_colour: float
    """Predict one colour, the best there is for the data, everywhere: the target's variance."""
    patch_mean: float
    """Predict each hidden patch's own true mean colour: colours right, no detail."""


def measure_baselines(target: Float[Tensor, "b n t"], in_channels: int) -> Baselines:
    """Measures what trivial predictions would score on `target`.

    For `norm_pixel` the target has no patch means left but those between channels, so the two
    lie close to each other and to 1.

    >>> import torch
    >>> flat = torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])
    >>> measure_baselines(flat, in_channels=1)
    Baselines(mean_colour=1.0, patch_mean=0.0)
    """
    values = rearrange(target.double(), "b n (pp c) -> b n pp c", c=in_channels)
    colour = reduce(values, "b n pp c -> c", "mean")
    own = reduce(values, "b n pp c -> b n 1 c", "mean")
    return Baselines(
        mean_colour=float((values - colour).square().mean()),
        patch_mean=float((values - own).square().mean()),
    )
