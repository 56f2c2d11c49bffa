"""The loss of pre-training, and its measure on held-out pictures."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from maekit.data.loader import Batch
from maekit.data.transforms import Normalise, Preprocessing
from maekit.masking import random_mask
from maekit.models.mae import MaskedAutoencoder
from maekit.patches import patchify
from maekit.targets import TARGETS, Baselines, measure_baselines
from maekit.training.objective import Losses


class PretrainObjective(nn.Module):
    """Normalises, masks, rebuilds, and scores the hidden patches."""

    def __init__(
        self, mae: MaskedAutoencoder, preprocessing: Preprocessing, mask_ratio: float
    ) -> None:
        super().__init__()
        self.mae, self.mask_ratio = mae, mask_ratio
        self.normalise = Normalise(preprocessing)

    def forward(self, batch: Batch) -> Losses:
        """Computes the loss of a batch under the masks that its noise gives."""
        mask = random_mask(batch.noise, self.mask_ratio)
        return Losses(self.mae(self.normalise(batch.images), mask).loss, {})


@torch.no_grad()
def evaluate(objective: PretrainObjective, batches: Iterable[Batch], device: torch.device) -> float:
    """Returns the mean loss over held-out pictures; their masks are always the same."""
    was_training = objective.training
    objective.eval()
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for batch in batches:
        total += objective(batch.to(device)).total.double() * len(batch.indices)
        count += len(batch.indices)
    objective.train(was_training)
    return float(total / count)


@torch.no_grad()
def baselines(objective: PretrainObjective, batches: Iterable[Batch]) -> Baselines:
    """Measures what predicting colours alone would score on the hidden patches of some pictures."""
    config = objective.mae.config
    encoder = config.encoder()
    device = objective.normalise.mean.device
    hidden: list[Tensor] = []
    for batch in batches:
        images = objective.normalise(batch.images.to(device)).cpu()
        target = TARGETS[config.target].encode(patchify(images, encoder.patch_size))
        masked = random_mask(batch.noise, objective.mask_ratio).masked
        hidden.append(target[masked][None])
    return measure_baselines(torch.cat(hidden, dim=1), encoder.in_channels)


def explained(loss: float, reference: Baselines) -> float:
    """Returns the share of the target's variance that a loss explains.

    Below 0 is worse than one colour everywhere.
    """
    return 1.0 - loss / reference.mean_colour
