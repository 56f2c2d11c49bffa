"""How good a classifier is: from probabilities and true classes to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BINS = 15
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class of the test. None where a quotient has no pictures below it."""

    name: str
    support: int
    """Test pictures of the class."""
    precision: float | None
    """Share of the pictures called so that are so."""
    recall: float | None
    """Share of its pictures that are called so."""
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """A classifier on a set of pictures. Shares lie in [0, 1]."""

    num_images: int
    top1: float
    top1_low: float
    """Lower end of the 95 % bootstrap interval of `top1`."""
    top1_high: float
    top5: float | None
    """Share whose class is among the five most probable; None with five classes or fewer."""
    balanced_accuracy: float
    """Mean recall of the classes that occur."""
    macro_f1: float
    """Mean F1 of the classes that occur."""
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy, in 15 bins."""
    log_loss: float
    """Mean of -log of the true class's probability."""
    per_class: list[ClassScores]


def score_classification(
    probabilities: Float[Tensor, "n classes"],
    labels: Int[Tensor, " n"],
    classes: Sequence[str],
    seed: int = 0,
) -> ClassificationScores:
    """Scores predictions.

    Args:
        probabilities: Rows sum to one.
        labels: True classes.
        classes: Their names, in order.
        seed: Fixes the bootstrap.
    """
    predicted = probabilities.argmax(dim=1)
    right = (predicted == labels).double()
    low, high = bootstrap_interval(right, seed)
    table = confusion(predicted, labels, len(classes))
    per_class = [_class_scores(table, number, name) for number, name in enumerate(classes)]
    occurring = [scores for scores in per_class if scores.support]
    top5 = None
    if len(classes) > 5:
        top5 = float(
            (probabilities.topk(5, dim=1).indices == labels[:, None]).any(1).double().mean()
        )
    true = probabilities.gather(1, labels[:, None]).double().clamp_min(1e-12)
    return ClassificationScores(
        num_images=len(labels),
        top1=float(right.mean()),
        top1_low=low,
        top1_high=high,
        top5=top5,
        balanced_accuracy=_mean([scores.recall for scores in occurring]),
        macro_f1=_mean([scores.f1 for scores in occurring]),
        ece=calibration_error(probabilities.amax(1), right),
        log_loss=float(-true.log().mean()),
        per_class=per_class,
    )


def confusion(
    predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"], num_classes: int
) -> Int[Tensor, "classes classes"]:
    """Counts pictures: row is the true class, column the predicted one."""
    flat = labels * num_classes + predicted
    return flat.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def _class_scores(table: Tensor, number: int, name: str) -> ClassScores:
    hits = int(table[number, number])
    support, called = int(table[number].sum()), int(table[:, number].sum())
    return ClassScores(
        name=name,
        support=support,
        precision=hits / called if called else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + called) if support else None,
    )


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def bootstrap_interval(values: Float[Tensor, " n"], seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a mean over 1,000 resamples of the pictures.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    generator = torch.Generator().manual_seed(seed)
    means = torch.stack(
        [
            values[torch.randint(len(values), (len(values),), generator=generator)].mean()
            for _ in range(_RESAMPLES)
        ]
    )
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


def calibration_error(confidence: Float[Tensor, " n"], right: Float[Tensor, " n"]) -> float:
    """Returns the expected calibration error over 15 bins of equal width.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    bins = (confidence.double() * _BINS).ceil().long().clamp(1, _BINS) - 1
    gaps = torch.zeros(_BINS, dtype=torch.double)
    gaps.scatter_add_(0, bins, right.double() - confidence.double())
    return float(gaps.abs().sum() / len(right))
