"""What fine-tuning minimises: cross-entropy, with mixed pictures and smoothed labels if asked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.transforms import v2

from maekit.data.loader import Batch
from maekit.data.transforms import Normalise
from maekit.finetuning.config import RegularConfig
from maekit.models.classifier import Classifier
from maekit.training.objective import Losses


class FinetuneObjective(nn.Module):
    """A classifier with its loss.

    Labels are looked up by the indices of a batch; so are the tokens of a frozen encoder, where
    they were computed once.
    """

    def __init__(
        self,
        classifier: Classifier,
        normalise: Normalise,
        labels: Int[Tensor, " n"],
        config: RegularConfig,
        weights: Float[Tensor, " classes"] | None = None,
        cache: Float[Tensor, "n k d"] | None = None,
    ) -> None:
        super().__init__()
        self.classifier, self.normalise = classifier, normalise
        self.labels, self.weights, self.cache = labels, weights, cache
        self.label_smoothing = config.label_smoothing or 0.0
        classes = classifier.head.head.out_features
        kinds = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        self.mixes = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]

    def forward(self, batch: Batch) -> Losses:
        """Computes the loss of a batch."""
        device = self.classifier.head.head.weight.device
        target = self.labels[batch.indices].to(device)
        if self.cache is not None:
            scores = self.classifier.head(self.cache[batch.indices].to(device))
        else:
            images = self.normalise(batch.images)
            if self.mixes:
                # From torch's default generator, which the loop seeds for every step.
                kind = int(torch.randint(len(self.mixes), ()))
                images, target = self.mixes[kind](images, target)
            scores = self.classifier(images)
        loss = F.cross_entropy(
            scores.float(), target, weight=self.weights, label_smoothing=self.label_smoothing
        )
        return Losses(loss, {})


def class_weights(labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, " classes"]:
    """Returns weights with which every class weighs the same in the loss; their mean is 1."""
    counts = labels.bincount(minlength=num_classes).clamp_min(1).float()
    weights = 1.0 / counts
    return weights / weights.mean()
