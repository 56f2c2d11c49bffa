"""Classification by nearest neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Queries compared at a time, so that memory stays flat.
_CHUNK = 1024


def knn_classify(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    k: int = 20,
    temperature: float = 0.07,
) -> Int[Tensor, " m"]:
    """Classifies by the weighted votes of the `k` most similar vectors.

    Similarity is the cosine; a vote weighs exp(similarity / temperature).

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", section 3.4.

    >>> import torch
    >>> train = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn_classify(train, torch.tensor([0, 0, 1]), torch.tensor([[0.1, 0.9]]), k=1).tolist()
    [1]
    """
    train, queries = F.normalize(train, dim=1), F.normalize(queries, dim=1)
    num_classes, k = int(labels.max()) + 1, min(k, len(train))
    predicted = []
    for chunk in torch.split(queries, _CHUNK):
        similarity, nearest = (chunk @ train.T).topk(k, dim=1)
        votes = torch.zeros(len(chunk), num_classes)
        votes.scatter_add_(1, labels[nearest], (similarity / temperature).exp())
        predicted.append(votes.argmax(dim=1))
    return torch.cat(predicted)
