"""Classification by nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Queries compared at a time, so that memory stays flat.
_CHUNK = 1024


def knn_probabilities(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    num_classes: int,
    ks: Sequence[int],
    temperature: float = 0.07,
) -> dict[int, Float[Tensor, "m classes"]]:
    """Returns the share of the votes of the `k` most similar vectors that each class gets, by `k`.

    Similarity is the cosine; a vote weighs exp(similarity / temperature).

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", section 3.4.

    >>> import torch
    >>> train = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> queries = torch.tensor([[0.1, 0.9]])
    >>> knn_probabilities(train, torch.tensor([0, 0, 1]), queries, 2, [1])[1].tolist()
    [[0.0, 1.0]]
    """
    train, queries = F.normalize(train, dim=1), F.normalize(queries, dim=1)
    most = min(max(ks), len(train))
    shares: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in torch.split(queries, _CHUNK):
        similarity, nearest = (chunk @ train.T).topk(most, dim=1)
        # Less than one for every vote: exp(1 / 0.07) is a large number.
        weights = ((similarity - 1) / temperature).exp()
        for k, rows in shares.items():
            votes = torch.zeros(len(chunk), num_classes)
            votes.scatter_add_(1, labels[nearest[:, :k]], weights[:, :k])
            rows.append(F.normalize(votes, p=1, dim=1))
    return {k: torch.cat(rows) for k, rows in shares.items()}


def choose_k(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    held: Float[Tensor, "m d"],
    held_labels: Int[Tensor, " m"],
    num_classes: int,
    ks: Sequence[int],
    temperature: float = 0.07,
) -> tuple[int, float]:
    """Returns the `k` that classifies held-out vectors best, and its share of right ones.

    Among equals it is the surest.
    """
    shares = knn_probabilities(train, labels, held, num_classes, ks, temperature)

    def quality(k: int) -> tuple[float, float]:
        right = (shares[k].argmax(1) == held_labels).double().mean()
        return float(right), float(shares[k].gather(1, held_labels[:, None]).mean())

    best = max(ks, key=quality)
    return best, quality(best)[0]
