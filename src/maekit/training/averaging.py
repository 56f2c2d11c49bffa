"""A running mean of weights, which often classifies better than the last of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_of(module: nn.Module, decay: float) -> AveragedModel:
    """Returns an exponential moving average of a module's weights; other state is copied.

    Early on the mean forgets faster, min(decay, (1 + n) / (10 + n)) after n updates, so that a
    short run is not dragged back to its initial weights.

    Args:
        module: What is trained.
        decay: Share of the mean that stays at every update, in (0, 1).
    """

    def update(means: list[Tensor], weights: list[Tensor], number: Tensor | int) -> None:
        share = min(decay, (1 + int(number)) / (10 + int(number)))
        torch._foreach_lerp_(means, weights, 1.0 - share)  # what torch's own averages use

    # torch's own types say tuple where lists come.
    return AveragedModel(module, multi_avg_fn=update)  # type: ignore[arg-type]
