"""Linear probing: how well a linear classifier does on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Strengths of the L2 penalty to choose from, over the mean loss of standardised features.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_ITERATIONS = 200


class LinearProbe(NamedTuple):
    """A linear classifier on standardised features."""

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]
    weight: Float[Tensor, "classes d"]
    bias: Float[Tensor, " classes"]
    penalty: float
    """The L2 penalty it was fitted with."""

    def probabilities(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m classes"]:
        """Classifies feature vectors."""
        return F.softmax(_logits(self, features), dim=1)


def fit_linear_probe(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], num_classes: int, penalty: float
) -> LinearProbe:
    """Fits a multinomial logistic regression by L-BFGS.

    Features are standardised first (the batch norm without affine of the paper's probe).

    Source: He et al. 2022, appendix A.1, "Linear probing", solved exactly instead of by LARS.
    """
    std, mean = torch.std_mean(features, dim=0, correction=0)
    probe = LinearProbe(
        mean,
        std.clamp_min(1e-6),
        torch.zeros(num_classes, features.shape[1], requires_grad=True),
        torch.zeros(num_classes, requires_grad=True),
        penalty,
    )
    solver = torch.optim.LBFGS(
        [probe.weight, probe.bias],
        max_iter=_ITERATIONS,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-7,
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = (
            F.cross_entropy(_logits(probe, features), labels)
            + penalty * probe.weight.square().sum()
        )
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]  # torch
    return probe._replace(weight=probe.weight.detach(), bias=probe.bias.detach())


def choose_penalty(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    held: Float[Tensor, "m d"],
    held_labels: Int[Tensor, " m"],
    num_classes: int,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[float, float]:
    """Returns the penalty that classifies held-out features best, and its share of right ones.

    Among equals it is the strongest.
    """

    def quality(penalty: float) -> tuple[float, float]:
        probe = fit_linear_probe(features, labels, num_classes, penalty)
        return accuracy(probe.probabilities(held).argmax(1), held_labels), penalty

    top1, best = max(map(quality, penalties))
    return best, top1


def _logits(probe: LinearProbe, features: Float[Tensor, "m d"]) -> Float[Tensor, "m classes"]:
    return F.linear((features - probe.mean) / probe.std, probe.weight, probe.bias)


def accuracy(predicted: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> float:
    """Returns the share of right predictions, in [0, 1]."""
    return float((predicted == labels).double().mean())
