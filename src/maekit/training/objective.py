"""What a training task gives the loop: a module from a batch to a loss."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from maekit.data.loader import Batch


class Losses(NamedTuple):
    """What an objective returns for one batch."""

    total: Float[Tensor, ""]
    """Differentiate this: a mean over the pictures of the batch."""
    parts: dict[str, Tensor]
    """Detached scalars to log besides the total, by name."""


@runtime_checkable
class Objective(Protocol):
    """A module, so that DDP and torch.compile wrap forward and loss together."""

    def __call__(self, batch: Batch) -> Losses:
        """Computes the losses of a batch."""
